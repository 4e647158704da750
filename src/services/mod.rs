//! The handlers that ship with the library: the little services of the internet's first years.

mod chargen;
mod discard;
mod echo;
mod time;

pub use chargen::ChargenHandler;
pub use discard::DiscardHandler;
pub use echo::EchoHandler;
pub use time::TimeHandler;
