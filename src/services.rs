//! The handlers that come with the library: the small TCP services of RFC 862 to RFC 868.

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
