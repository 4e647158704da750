//! The handlers that ship with the library: the little services of the internet's first years.

mod chargen;
#[cfg(feature = "daytime")]
mod daytime;
mod discard;
mod echo;
mod time;

pub use chargen::ChargenHandler;
#[cfg(feature = "daytime")]
pub use daytime::{Daytime, DaytimeError, DaytimeFormat, DaytimeHandler, LeapSecond};
pub use discard::DiscardHandler;
pub use echo::EchoHandler;
pub use time::TimeHandler;
