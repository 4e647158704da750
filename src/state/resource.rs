//! What a server can be short of.

use std::fmt;

/// What the system did not have when a server needed it for the next connection:
/// [`Totals::shortages`](crate::Totals::shortages) counts each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// `descriptors`: of the process or of the system (`EMFILE`, `ENFILE`).
    Descriptors,
    /// `memory`: of the kernel (`ENOBUFS`, `ENOMEM`).
    Memory,
    /// `threads`: the system refused one, or the [bound](crate::TcpServer::max_threads) is reached.
    Threads,
    /// `other`: `accept(2)` failed for another reason that may pass, a filter of system calls for
    /// example.
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
