//! The handlers that ship with the library.

mod echo;

pub use echo::EchoHandler;
