//! Connections that share something: a guest book.
//!
//! ```sh
//! cargo run --example shared_state
//! nc 127.0.0.1 7007           # in two more terminals: each line you type, the next guest reads
//! ```
//!
//! Every connection has its own thread and its own handler. All handlers share one book, so it is behind
//! an `Arc`. They also change the book, so it is behind a `Mutex`.

mod support;

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socketserver::{Connection, RequestHandler, TcpServer};
use support::printable;

/// The most entries of the book. When it is full, a new entry replaces the oldest.
const ENTRIES: usize = 100;
/// The most bytes of an entry. A longer line counts as several.
const LONGEST: u64 = 1000;

#[derive(Clone, Default)]
struct GuestBook {
    entries: Arc<Mutex<VecDeque<String>>>,
}

impl RequestHandler for GuestBook {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        // Copy the entries, so that the lock is not held while a slow client reads.
        let so_far = self.lock().make_contiguous().join("\n");
        writeln!(conn, "--- guest book ---\n{so_far}\n--- your turn ---")?;
        let peer = conn.peer_addr();
        let mut lines = BufReader::new(conn);
        loop {
            let mut line = Vec::new();
            if (&mut lines).take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            // Escape control characters, because another guest's terminal would obey them.
            let entry = format!("{peer}: {}", printable(line.trim_ascii_end()));
            let mut entries = self.lock();
            if entries.len() == ENTRIES {
                entries.pop_front();
            }
            entries.push_back(entry);
        }
    }
}

impl GuestBook {
    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        // A handler that panicked can't have left the book half-changed, so the poison is ignored.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<(), socketserver::Error> {
    let book = GuestBook::default();
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(move || book.clone())?;
    Ok(())
}
