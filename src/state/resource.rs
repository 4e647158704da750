//! The resources that a server can be short of.

use std::fmt;

/// A resource of which the system had none left when the server needed it for a connection.
///
/// [`Totals::shortages`](crate::Totals::shortages) counts the shortages of each.
///
/// # Examples
///
/// ```
/// use socketserver::{Resource, Totals};
///
/// fn print_shortages(totals: &Totals) {
///     for of in [Resource::Descriptors, Resource::Memory, Resource::Threads] {
///         println!("{of}: {} shortages", totals.shortages(of));
///     }
/// }
/// # print_shortages(&Totals::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `descriptors`: the process or the system has no file descriptor left (`EMFILE`, `ENFILE`).
    Descriptors,
    /// `memory`: the kernel has no memory left for a socket (`ENOBUFS`, `ENOMEM`).
    Memory,
    /// `threads`: a thread could not be started, or the [limit](crate::TcpServer::max_threads) is reached.
    Threads,
    /// `other`: `accept(2)` failed for another reason that may pass, such as a filter of system calls
    /// (seccomp).
    Other,
}

impl Resource {
    pub(super) const COUNT: usize = Self::Other as usize + 1;
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::Threads => "threads",
            Self::Other => "other",
        })
    }
}
