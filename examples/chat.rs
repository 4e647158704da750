//! A chat: each line that a member types, all others read.
//!
//! ```sh
//! cargo run --example chat
//! nc 127.0.0.1 7007           # in two more terminals: a name, then what you want to say
//! ```
//!
//! Each member has a thread. The thread waits for two things at the same time (`Connection::wait`):
//! for what its own client types, and for what other members say. A line that is said goes into the
//! outboxes of all other members, and their threads are woken (`ConnectionHandle::wake`). Each thread
//! writes to its own client only, so a client that reads slowly delays nobody else.

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

/// How many bytes a line may have. A line that is longer counts as several.
const LONGEST: usize = 1000;
/// How many bytes a name may have.
const LONGEST_NAME: usize = 20;
/// How many lines may wait for a member. A member whose outbox is full is dropped.
const OUTBOX: usize = 400;
/// How many bytes may wait for a member in the kernel, before its outbox begins to fill.
const BUFFER: usize = 16 * 1024;
/// The time between two lines of one member, so that nobody speaks faster than others can read.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a client may take to say its name, and how long it may read nothing of what it is sent.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many members there may be. Each takes three descriptors, and a process usually has 1024.
const MEMBERS: usize = 300;

/// What the members share, by the numbers of their connections.
type Room = Arc<Mutex<BTreeMap<u64, Member>>>;
/// Lines that are to be written to one member. All outboxes share the text of a line.
type Outbox = SyncSender<Arc<str>>;

struct Member {
    name: String,
    outbox: Outbox,
    conn: ConnectionHandle,
}

/// Serves one client, who becomes a member by saying a name.
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
            // `read_line` would wait for the whole line, and the client would hear nobody meanwhile. So
            // this is one read at most, which does not wait.
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
            // Another member's terminal would obey what is not text.
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

    /// Runs for a member that was dropped, too.
    fn finish(&mut self, conn: &mut Connection) -> io::Result<()> {
        let member = self.room().remove(&conn.id());
        // When the chat ends, all members go, and each has its goodbye.
        if let Some(Member { name, .. }) = member
            && !conn.is_closing()
        {
            self.tell_others(conn.id(), &format!("* {name} is gone\n"));
        }
        Ok(())
    }
}

impl Guest {
    /// Makes the guest a member, if the name will do. Otherwise the next line is the next try.
    fn join(&mut self, mut conn: &Connection, name: &str, outbox: &Outbox) -> io::Result<()> {
        let fits = (1..=LONGEST_NAME).contains(&name.len());
        let mut room = self.room();
        // Under one lock with the `insert`, so that no two members get the same name.
        let is_taken = room.values().any(|member| member.name == name);
        if is_taken || !fits || !name.chars().all(char::is_alphanumeric) {
            drop(room);
            return writeln!(
                conn,
                "* not that one: a few letters or digits, and your own"
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

    /// Hands a line to everybody but the one it comes from. Nothing in here waits for a client.
    fn tell_others(&self, from: u64, line: &str) {
        let line = Arc::from(line);
        for (_, member) in self.room().iter().filter(|&(&id, _)| id != from) {
            match member.outbox.try_send(Arc::clone(&line)) {
                Ok(()) => member.conn.wake(),
                // The client does not read, and its thread is stuck in a write: the abort ends it.
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
