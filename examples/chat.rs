//! A chat: each line that a member types, all others read.
//!
//! ```sh
//! cargo run --example chat
//! nc 127.0.0.1 7007           # in two more terminals: a name, then what you want to say
//! ```
//!
//! Each member has a thread. The thread waits for two things at the same time (`Connection::wait`):
//! for what its own client types, and for what other members say. The thread of the member that says a
//! line puts the line into the outboxes of all other members and wakes their threads
//! (`ConnectionHandle::wake`). Each thread writes only to its own client, so a client that reads slowly
//! delays no other client.

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, thread};

use socketserver::{Connection, ConnectionHandle, RequestHandler, TcpServer, Wait};
use support::{print, printable};

/// The most bytes of a line. A longer line counts as several.
const LONGEST: usize = 1000;
/// The most bytes of a name.
const LONGEST_NAME: usize = 20;
/// The most lines that may wait for a member. A member whose outbox is full is disconnected.
const OUTBOX: usize = 400;
/// The size of the socket buffers. The outbox of a member begins to fill only when they are full.
const BUFFER: usize = 16 * 1024;
/// The pause after each line of a member, so that no member sends faster than the others can read.
const PAUSE: Duration = Duration::from_millis(5);
/// Time limit for a client to send its name, and for a write to a client that does not read.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most members. Each takes three descriptors, and a process may usually open 1024.
const MEMBERS: usize = 300;

/// All members, by the numbers of their connections.
type Room = Arc<Mutex<BTreeMap<u64, Member>>>;
/// Lines to write to one member. All outboxes share the text of a line.
type Outbox = SyncSender<Arc<str>>;

struct Member {
    name: String,
    outbox: Outbox,
    conn: ConnectionHandle,
}

/// Serves one client. The client becomes a member when it has sent a name.
struct Guest {
    room: Room,
    name: Option<String>,
}

impl RequestHandler for Guest {
    fn setup(&mut self, conn: &mut Connection) -> io::Result<()> {
        conn.set_deadline(Instant::now() + TIMEOUT);
        writeln!(conn, "* what is your name?")
    }

    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let (outbox, news): (Outbox, _) = sync_channel(OUTBOX);
        let (mut input, mut client) = (BufReader::new(&*conn), &*conn);
        let mut line = Vec::new();
        loop {
            // `wait` looks at the socket. It can't see the lines that the reader holds already.
            let has_input = !input.buffer().is_empty();
            let event = conn.wait(has_input.then_some(Duration::ZERO))?;
            for said in news.try_iter() {
                client.write_all(said.as_bytes())?;
            }
            match event {
                Wait::Closing => return writeln!(client, "* the chat ends, goodbye"),
                Wait::Woken => continue,
                _ => {}
            }
            // `read_line` would wait for the whole line, and meanwhile the client would get no lines of
            // others. `fill_buf` reads at most once, and the read does not wait.
            let bytes = input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let n = end.map_or(bytes.len(), |end| end + 1);
            let n = n.min(LONGEST - line.len());
            line.extend_from_slice(&bytes[..n]);
            input.consume(n);
            if !line.ends_with(b"\n") && line.len() < LONGEST {
                continue;
            }
            // Escape control characters, because another member's terminal would obey them.
            let text = printable(line.trim_ascii_end());
            line.clear();
            match (&self.name, &*text) {
                (None, name) => self.join(conn, name, &outbox)?,
                (Some(_), "") => {}
                (Some(_), "/quit") => return writeln!(client, "* goodbye"),
                (Some(_), "/who") => {
                    let names: Vec<_> = self.room().values().map(|m| m.name.clone()).collect();
                    writeln!(client, "* here: {}", names.join(" "))?;
                }
                (Some(name), text) => self.tell_others(conn.id(), &format!("{name}: {text}\n")),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes the member from the room. The server also calls this after an abort.
    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        let member = self.room().remove(&conn.id());
        // When the chat ends, every member gets a goodbye, so don't tell the others.
        if let Some(Member { name, .. }) = member
            && !conn.is_closing()
        {
            self.tell_others(conn.id(), &format!("* {name} is gone\n"));
        }
        Ok(())
    }
}

impl Guest {
    /// Makes the guest a member, if the name is valid and free. Otherwise the guest may try again.
    fn join(&mut self, mut conn: &Connection, name: &str, outbox: &Outbox) -> io::Result<()> {
        let fits = (1..=LONGEST_NAME).contains(&name.len());
        let mut room = self.room();
        // The lock is held until the `insert`, so that no two members get the same name.
        let is_taken = room.values().any(|member| member.name == name);
        if is_taken || !fits || !name.chars().all(char::is_alphanumeric) {
            drop(room);
            return writeln!(
                conn,
                "* choose another name: up to {LONGEST_NAME} bytes, letters and digits, not yet taken"
            );
        }
        let member = Member {
            name: name.to_owned(),
            outbox: outbox.clone(),
            conn: conn.handle(),
        };
        room.insert(conn.id(), member);
        drop(room);
        conn.set_deadline(None);
        self.name = Some(name.to_owned());
        self.tell_others(conn.id(), &format!("* {name} is here\n"));
        writeln!(conn, "* welcome; /who is here, /quit ends")
    }

    /// Puts a line into the outbox of every member except its author, without waiting for a client.
    fn tell_others(&self, from: u64, line: &str) {
        let line = Arc::from(line);
        for (_, member) in self.room().iter().filter(|&(&id, _)| id != from) {
            match member.outbox.try_send(Arc::clone(&line)) {
                Ok(()) => member.conn.wake(),
                // The client does not read, so its thread is stuck in a write. The abort ends the write.
                Err(TrySendError::Full(_)) => member.conn.abort(),
                // The member is leaving, and has not run `finish` yet.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn room(&self) -> MutexGuard<'_, BTreeMap<u64, Member>> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = env::args_os().nth(1).unwrap_or("127.0.0.1:7007".into());
    let server = TcpServer::builder()
        .max_connections(MEMBERS)
        .socket_buffers(BUFFER)
        .write_timeout(TIMEOUT)
        .bind(&*addr.to_string_lossy())?;
    let handle = server.handle();
    ctrlc::set_handler(move || handle.shutdown())?;
    print(format_args!("* listening at {}", server.local_addr()));
    let room = Room::default();
    server.serve_forever(move || Guest {
        room: Arc::clone(&room),
        name: None,
    })?;
    Ok(())
}
