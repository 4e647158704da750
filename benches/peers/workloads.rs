//! The workloads by their names.

use std::fmt;
use std::str::FromStr;

/// The clients of `storm` and `idle`, and the most that any workload may have. This is more than most
/// servers ever have, and few enough for the ephemeral ports of one address.
pub(crate) const CLIENTS: usize = 8000;

/// The longest message, in bytes. The client sends a message at once, so it must fit into the smallest send
/// buffer that Linux gives.
const LONGEST_MESSAGE: usize = 4096;

const SIZES: [usize; 3] = [128, 512, 1000];
const CONNECTIONS: [usize; 7] = [1, 8, 50, 150, 300, 500, 1000];

/// The clients of the workload `connect`, if its name has no number.
const CONNECT_CLIENTS: usize = 8;

/// What the client does to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Messages, one in flight on each connection.
    PingPong { size: usize, connections: usize },
    /// Connect, one message, close; each client begins again at once.
    Connect { clients: usize },
    /// Streams, sent as fast as the server reads.
    Bulk { streams: usize },
    /// One such stream, by two blocking threads of the client instead of an event loop.
    BulkThreads,
    /// All clients connect at once.
    Storm,
    /// All clients are silent, then send at once.
    Idle,
}

impl Workload {
    /// Returns all workloads that run by default.
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

    /// Returns the workload with this name, or else all workloads whose names begin with it.
    pub(crate) fn select(name: &str) -> Result<Vec<Self>, String> {
        if let Ok(workload) = name.parse() {
            return Ok(vec![workload]);
        }
        let mut workloads = Self::all();
        workloads.retain(|workload| workload.to_string().starts_with(name));
        if workloads.is_empty() {
            return Err("unknown workload; --list prints all".to_owned());
        }
        Ok(workloads)
    }

    /// Returns what the client does, in a line.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::PingPong { .. } => "BYTES-CONNECTIONS: one message in flight on each connection",
            Self::Connect { clients: 1 } => {
                "connect, one message, close; one client, again and again"
            }
            Self::Connect { .. } => "connect, one message, close; eight clients, or another number",
            Self::Bulk { .. } => "streams, sent as fast as the server reads, by one thread",
            Self::BulkThreads => "one stream, by a thread that writes and a thread that reads",
            Self::Storm => "8000 clients connect at once, until all have received an echo",
            Self::Idle => "8000 clients are silent, then send at once",
        }
    }

    /// Returns how many descriptors the client needs, and probably the server, too.
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
