//! The workloads by their names: what a client can be made to do to a server.

use std::fmt;
use std::str::FromStr;

/// How many clients there are at most: more than most servers ever see, and few enough for the
/// ephemeral ports of one address.
pub(crate) const CLIENTS: usize = 8000;

/// A message goes out in one piece, so it must fit the smallest send buffer that Linux gives.
const LONGEST_MESSAGE: usize = 4096;

const SIZES: [usize; 3] = [128, 512, 1000];
const CONNECTIONS: [usize; 7] = [1, 8, 50, 150, 300, 500, 1000];

/// The clients of `connect`, whose name has no number.
const CONNECT_CLIENTS: usize = 8;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Messages, one in flight on each connection.
    PingPong { size: usize, connections: usize },
    /// Connect, one message, close; each client begins again at once.
    Connect { clients: usize },
    /// Streams that send as fast as they are taken.
    Bulk { streams: usize },
    /// One such stream, from two blocking threads instead of an event loop.
    BulkThreads,
    /// All clients connect at once.
    Storm,
    /// All clients are silent, then send at once.
    Idle,
}

impl Workload {
    /// Returns all that are measured unless others are asked for.
    pub(crate) fn all() -> Vec<Self> {
        let ping_pong = |size| CONNECTIONS.map(|connections| Self::PingPong { size, connections });
        let mut all: Vec<_> = SIZES.into_iter().flat_map(ping_pong).collect();
        all.extend([
            Self::Connect { clients: 1 },
            Self::Connect {
                clients: CONNECT_CLIENTS,
            },
            Self::Bulk { streams: 1 },
            Self::BulkThreads,
            Self::Bulk { streams: 8 },
            Self::Storm,
            Self::Idle,
        ]);
        all
    }

    /// Returns the one with this name, or else all whose names begin with it.
    pub(crate) fn select(name: &str) -> Result<Vec<Self>, String> {
        if let Ok(workload) = name.parse() {
            return Ok(vec![workload]);
        }
        let mut workloads = Self::all();
        workloads.retain(|workload| workload.to_string().starts_with(name));
        if workloads.is_empty() {
            return Err("no workload has a name that is or begins like this".to_owned());
        }
        Ok(workloads)
    }

    /// Returns what the client does, in a line.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::PingPong { .. } => "bytes and connections: one message in flight on each",
            Self::Connect { clients: 1 } => {
                "connect, one message, close; one client, again and again"
            }
            Self::Connect { .. } => "the same by eight clients at once, or by another number",
            Self::Bulk { .. } => "streams, sent as fast as they are taken, by one thread",
            Self::BulkThreads => "one stream, by a thread that writes and one that reads",
            Self::Storm => "8000 connect at once, until all have had an echo",
            Self::Idle => "8000 connections are silent, then speak at once",
        }
    }

    /// Returns how many descriptors the client needs for it, and likely the server too.
    pub(crate) fn descriptors(self) -> usize {
        match self {
            Self::PingPong { connections, .. } => connections,
            Self::Connect { clients } => clients,
            Self::Bulk { streams } => streams,
            Self::BulkThreads => 1,
            Self::Storm | Self::Idle => CLIENTS,
        }
    }
}

impl FromStr for Workload {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let parts: Vec<_> = name.split('-').collect();
        let number = |text: &str, most| {
            let number = text.parse().ok().filter(|n| (1..=most).contains(n));
            number.ok_or(())
        };
        Ok(match parts[..] {
            ["pingpong", size, connections] => Self::PingPong {
                size: number(size, LONGEST_MESSAGE)?,
                connections: number(connections, CLIENTS)?,
            },
            ["connect"] => Self::Connect {
                clients: CONNECT_CLIENTS,
            },
            ["connect", clients] => Self::Connect {
                clients: number(clients, CLIENTS)?,
            },
            ["bulk", "1", "threads"] => Self::BulkThreads,
            ["bulk", streams] => Self::Bulk {
                streams: number(streams, CLIENTS)?,
            },
            ["storm"] => Self::Storm,
            ["idle"] => Self::Idle,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PingPong { size, connections } => write!(f, "pingpong-{size}-{connections}"),
            Self::Connect {
                clients: CONNECT_CLIENTS,
            } => f.write_str("connect"),
            Self::Connect { clients } => write!(f, "connect-{clients}"),
            Self::Bulk { streams } => write!(f, "bulk-{streams}"),
            Self::BulkThreads => f.write_str("bulk-1-threads"),
            Self::Storm => f.write_str("storm"),
            Self::Idle => f.write_str("idle"),
        }
    }
}
