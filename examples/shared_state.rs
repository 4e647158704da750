//! Connections that share something: a guest book.
//!
//! ```sh
//! cargo run --example shared_state
//! nc 127.0.0.1 7007           # in two more terminals: each line you type, the next guest reads
//! ```
//!
//! Every connection has its own thread and its own handler. What they share is behind an `Arc`,
//! and what they change together is behind a `Mutex`.

use std::io::{self, BufRead, BufReader, Write};
use std::sync::{Arc, Mutex, PoisonError};

use socketserver::{Connection, RequestHandler, TcpServer};

#[derive(Clone, Default)]
struct GuestBook {
    entries: Arc<Mutex<Vec<String>>>,
}

impl RequestHandler for GuestBook {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        // Copied, so that the lock is not held while a slow client reads.
        let so_far = self.lock().join("\n");
        writeln!(conn, "--- guest book ---\n{so_far}\n--- your turn ---")?;
        let peer = conn.peer_addr();
        for line in BufReader::new(conn).lines() {
            self.lock().push(format!("{peer}: {}", line?));
        }
        Ok(())
    }
}

impl GuestBook {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        // A guest whose handler panicked has left a whole book behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<(), socketserver::Error> {
    let book = GuestBook::default();
    TcpServer::bind("127.0.0.1:7007")?.serve_forever(move || book.clone())?;
    Ok(())
}
