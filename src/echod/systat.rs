//! Who is connected (RFC 866, active users): a line for each live connection of every service, for a
//! person at a terminal, or once to the log.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use socketserver::{Connection, Stage};

use crate::run::Handles;
use crate::service::Service;

/// The most connections of one service that a client is told of.
const MAX_LINES: usize = 1000;

/// The most connections of one service that are logged: a tenth of what the log holds for a slow reader,
/// with all services.
const MAX_LOGGED: usize = 100;

/// How long a client may take to read its list.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is said of one connection.
#[derive(Debug)]
struct Entry {
    peer: SocketAddr,
    /// Unknown if the connection has ended meanwhile.
    local: Option<SocketAddr>,
    age: Duration,
    bytes_in: u64,
    bytes_out: u64,
    state: Stage,
}

/// The live connections of one service, the oldest first.
#[derive(Debug)]
struct List {
    service: Service,
    entries: Vec<Entry>,
    /// How many connections there are beyond these.
    more: usize,
}

/// Sends the list of connections, that of the client included. What the client sends is dropped with its
/// connection.
pub(crate) fn send(mut conn: &Connection, handles: &Handles) -> io::Result<()> {
    conn.set_deadline(Instant::now() + TIMEOUT);
    conn.write_all(table(&lists(handles, MAX_LINES)).as_bytes())
}

/// Logs the live connections: a line for each, after one with how many each service has.
pub(crate) fn log(handles: &Handles) {
    let lists = lists(handles, MAX_LOGGED);
    if lists.is_empty() {
        return log::info!("connections: none, because nothing is served yet");
    }
    let counts: Vec<_> = lists
        .iter()
        .map(|list| format!("{}={}", list.service, list.entries.len() + list.more))
        .collect();
    log::info!("connections: {}", counts.join(" "));
    for List {
        service,
        entries,
        more,
    } in lists
    {
        for entry in entries {
            let Entry {
                peer,
                age,
                bytes_in,
                bytes_out,
                state,
                ..
            } = &entry;
            let local = entry.local();
            let (seconds, age) = (age.as_secs_f64(), in_seconds(*age));
            log::info!(
                service:%, peer:%, local, age = seconds, bytes_in, bytes_out, state:%;
                "service={service} peer={peer} local={local} age={age} bytes_in={bytes_in} \
                 bytes_out={bytes_out} state={state}"
            );
        }
        if more > 0 {
            log::info!(service:%, more; "service={service} and {more} more connections");
        }
    }
}

fn lists(handles: &Handles, most: usize) -> Vec<List> {
    let list = |(service, server): &(Service, socketserver::ServerHandle)| {
        let mut connections = server.connections();
        // Some may end while this list is made.
        connections.retain(|conn| conn.stage() != Stage::Ended);
        let more = connections.len().saturating_sub(most);
        let entries = connections.iter().take(most).map(|conn| Entry {
            peer: conn.peer_addr(),
            local: conn.local_addr().ok(),
            age: conn.age(),
            bytes_in: conn.bytes_in(),
            bytes_out: conn.bytes_out(),
            state: conn.stage(),
        });
        List {
            service: *service,
            entries: entries.collect(),
            more,
        }
    };
    handles.all().iter().map(list).collect()
}

impl Entry {
    fn local(&self) -> String {
        self.local
            .map_or_else(|| "-".to_owned(), |addr| addr.to_string())
    }
}

/// Returns a time in whole seconds, as in `1h5m3s`.
fn in_seconds(age: Duration) -> String {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    SpanPrinter::new()
        .designator(Designator::Compact)
        .spacing(Spacing::None)
        .duration_to_string(&SignedDuration::from_secs(seconds))
}

/// Returns the lists as lines with aligned columns. A line ends as lines on the network do: CR LF.
fn table(lists: &[List]) -> String {
    let mut rows =
        vec![["SERVICE", "PEER", "LOCAL", "AGE", "IN", "OUT", "STATE"].map(str::to_owned)];
    for list in lists {
        rows.extend(list.entries.iter().map(|entry| {
            [
                list.service.to_string(),
                entry.peer.to_string(),
                entry.local(),
                in_seconds(entry.age),
                entry.bytes_in.to_string(),
                entry.bytes_out.to_string(),
                entry.state.to_string(),
            ]
        }));
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let [service, peer, local, age, bytes_in, bytes_out, _] = widths;
    let mut table = String::new();
    for [a, b, c, d, e, f, state] in &rows {
        // A `String` takes whatever is written to it.
        let _ = write!(
            table,
            "{a:service$}  {b:peer$}  {c:local$}  {d:>age$}  {e:>bytes_in$}  {f:>bytes_out$}  {state}\r\n"
        );
    }
    for List { service, more, .. } in lists.iter().filter(|list| list.more > 0) {
        let _ = write!(table, "... and {more} more of {service}\r\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(peer: &str, seconds: u64, bytes: u64, state: Stage) -> Entry {
        Entry {
            peer: peer.parse().unwrap(),
            local: Some("127.0.0.1:7".parse().unwrap()),
            age: Duration::from_secs(seconds),
            bytes_in: bytes,
            bytes_out: bytes,
            state,
        }
    }

    #[test]
    fn columns_are_aligned_and_what_is_left_out_is_counted() {
        let lists = [
            List {
                service: Service::Echo,
                entries: vec![
                    entry("127.0.0.1:50000", 3903, 1_000_000, Stage::Reactor),
                    entry("[2001:db8::1]:5", 0, 5, Stage::Closing),
                ],
                more: 12,
            },
            List {
                service: Service::DaytimeLong,
                entries: vec![Entry {
                    local: None,
                    ..entry("127.0.0.1:1", 59, 0, Stage::Handler)
                }],
                more: 0,
            },
        ];
        let expected = [
            "SERVICE       PEER             LOCAL           AGE       IN      OUT  STATE",
            "echo          127.0.0.1:50000  127.0.0.1:7  1h5m3s  1000000  1000000  reactor",
            "echo          [2001:db8::1]:5  127.0.0.1:7      0s        5        5  closing",
            "daytime-long  127.0.0.1:1      -               59s        0        0  handler",
            "... and 12 more of echo",
            "",
        ];
        assert_eq!(table(&lists), expected.join("\r\n"));
    }
}
