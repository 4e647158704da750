//! Lists the live connections of all services: to a client of `systat` (RFC 866, active users), or to the
//! log.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use jiff::fmt::friendly::{Designator, Spacing, SpanPrinter};
use socketserver::{Connection, Stage};

use crate::run::Handles;
use crate::service::Service;

/// Maximum connections per service in the list that a client gets.
const MAX_LINES: usize = 1000;

/// Maximum connections per service that are logged. With all services these fill a tenth of the log's queue,
/// so that a slow reader loses no line.
const MAX_LOGGED: usize = 100;

/// Time limit for sending the list to a client.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A line of the list: one connection.
#[derive(Debug)]
struct Entry {
    peer: SocketAddr,
    /// `None` if the connection has ended since.
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
    /// The number of further connections.
    more: usize,
}

/// Sends the list of connections, including the client's own. Ignores input of the client.
pub(crate) fn send(mut conn: &Connection, handles: &Handles) -> io::Result<()> {
    conn.set_deadline(Instant::now() + TIMEOUT);
    conn.write_all(table(&lists(handles, MAX_LINES)).as_bytes())
}

/// Logs the live connections: the number per service, then a line for each.
pub(crate) fn log(handles: &Handles) {
    let lists = lists(handles, MAX_LOGGED);
    if lists.is_empty() {
        return log::info!("connections: none, because no server runs yet");
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

/// Returns a list for each service, with at most `max` connections.
fn lists(handles: &Handles, max: usize) -> Vec<List> {
    let list = |(service, server): &(Service, socketserver::ServerHandle)| {
        let mut connections = server.connections();
        // Connections may end while this list is made.
        connections.retain(|conn| conn.stage() != Stage::Ended);
        let more = connections.len().saturating_sub(max);
        let entries = connections.iter().take(max).map(|conn| Entry {
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

/// Formats a time in whole seconds, as in `1h5m3s`.
fn in_seconds(age: Duration) -> String {
    let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    SpanPrinter::new()
        .designator(Designator::Compact)
        .spacing(Spacing::None)
        .duration_to_string(&SignedDuration::from_secs(seconds))
}

/// Formats the lists as lines with aligned columns. Each line ends with CR LF, as in Internet protocols.
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
        // Writing to a `String` never fails.
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
