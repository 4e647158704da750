//! Peer to peer: a chat in which everybody is client and server.
//!
//! ```sh
//! cargo run --example peer -- ann 127.0.0.1:7001
//! cargo run --example peer -- bob 127.0.0.1:7002 127.0.0.1:7001    # in another terminal
//! cargo run --example peer -- cem 127.0.0.1:7003 127.0.0.1:7002    # and so on; Ctrl-D leaves
//! ```
//!
//! Who connects and who accepts do the same from then on. Both send lines:
//!
//! 1. who they are: a random number, the address they listen at, a name;
//! 2. the addresses of those they know; the other connects to each that it doesn't know;
//! 3. then what is typed, a line each.
//!
//! So everybody is connected to everybody, and says things once to each. Nobody passes on what
//! others say: nothing arrives twice or goes round for ever, and whoever leaves takes only himself
//! away. If two connect to each other at the same time, each reads both connections and sends
//! through one. Nobody has to prove that he is who he says.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

use socketserver::{TcpServer, from_fn};

/// How long others may take: to make room for what is said, and to say goodbye.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many bytes a line may have; what is longer counts as several.
const LONGEST: u64 = 16 * 1024;
/// How many addresses are believed from one peer.
const MOST: usize = 100;

/// Whoever runs this.
struct Me {
    id: u64,
    addr: SocketAddr,
    name: String,
    others: Mutex<HashMap<u64, Other>>,
    /// Dropped when nobody needs this any more: after the last connection.
    _alive: Sender<()>,
}

struct Other {
    addr: SocketAddr,
    name: String,
    /// What its connections have to send. They half-close when it is dropped.
    outboxes: Vec<Sender<String>>,
}

fn main() -> ExitCode {
    let mut args = env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let (Some(name), Some(addr)) = (args.nth(1), args.next()) else {
        eprintln!("usage: peer NAME LISTEN [PEER]...");
        return ExitCode::from(2);
    };
    match TcpServer::builder().write_timeout(PATIENCE).bind(&*addr) {
        Ok(server) => chat(&name, server, args),
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            eprintln!("{error}: {}", cause.unwrap_or_default());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn chat(name: &str, server: TcpServer, peers: impl Iterator<Item = String>) {
    let (alive, over) = channel();
    let me = Arc::new(Me {
        id: fastrand::u64(..),
        addr: server.local_addr(),
        name: printable(name),
        others: Mutex::default(),
        _alive: alive,
    });
    show(&format!("* listening at {}", me.addr));
    let host = Arc::downgrade(&me);
    let accept = from_fn(move |conn| match host.upgrade() {
        Some(me) => me.talk(&*conn, conn.stream()),
        None => Ok(()),
    });
    thread::spawn(|| server.serve_forever(accept));
    peers.for_each(|peer| me.connect(peer));

    let mut keyboard = io::stdin().lock();
    // A byte that is no UTF-8 becomes three.
    while let Ok(Some(line)) = next_line(&mut keyboard, LONGEST / 4) {
        me.say(&line);
    }
    // Connections send what is left to send, then the end, and wait for that of the other side. To
    // exit at once could reset it out of the last words.
    me.others().clear();
    drop(me);
    let _ = over.recv_timeout(PATIENCE);
}

impl Me {
    fn connect(self: &Arc<Self>, peer: String) {
        let me = Arc::clone(self);
        thread::spawn(move || {
            let talked = TcpStream::connect(&peer).and_then(|stream| {
                stream.set_write_timeout(Some(PATIENCE))?;
                me.talk(&stream, &stream)
            });
            if let Err(error) = talked {
                eprintln!("* {peer}: {error}");
            }
        });
    }

    /// Talks with a peer until one of both leaves, whoever of them has connected.
    fn talk(
        self: &Arc<Self>,
        mut stream: impl Read + Write + Copy + Send + Sync,
        socket: &TcpStream,
    ) -> io::Result<()> {
        stream.write_all(format!("{} {} {}\n", self.id, self.addr, self.name).as_bytes())?;
        let mut lines = BufReader::new(stream);
        let hello = next_line(&mut lines, LONGEST)?;
        let (id, mut addr, name) = hello
            .and_then(|line| introduction(&line))
            .ok_or_else(|| io::Error::other("that is no peer"))?;
        if id == self.id {
            return Err(io::Error::other("that is myself"));
        }
        if addr.ip().is_unspecified() {
            // It listens at every address it has: this is one.
            addr.set_ip(socket.peer_addr()?.ip().to_canonical());
        }
        let outbox = self.meet(id, addr, &name);
        thread::scope(|scope| {
            scope.spawn(|| deliver(outbox, stream, socket));
            if let Ok(Some(known)) = next_line(&mut lines, LONGEST) {
                let known = known.split(' ').filter_map(|addr| addr.parse().ok());
                known.take(MOST).for_each(|addr| self.hear_of(addr));
            }
            while let Ok(Some(line)) = next_line(&mut lines, LONGEST) {
                show(&format!("{name}: {}", printable(&line)));
            }
            self.lose(id);
        });
        Ok(())
    }

    /// Notes a connection, and returns what it has to send. That begins with who else is known: of
    /// any two, the one who comes later hears of the other.
    fn meet(&self, id: u64, addr: SocketAddr, name: &str) -> Receiver<String> {
        let (sender, outbox) = channel();
        let mut others = self.others();
        let known = others.iter().filter(|(known, _)| **known != id);
        let known: Vec<_> = known.map(|(_, other)| other.addr.to_string()).collect();
        let _ = sender.send(known.join(" "));
        let other = others.entry(id).or_insert_with(|| {
            show(&format!("* {name} is here"));
            let (name, outboxes) = (name.to_owned(), Vec::new());
            Other {
                addr,
                name,
                outboxes,
            }
        });
        other.outboxes.push(sender);
        outbox
    }

    fn hear_of(self: &Arc<Self>, addr: SocketAddr) {
        if self.others().values().all(|other| other.addr != addr) {
            self.connect(addr.to_string());
        }
    }

    fn say(&self, line: &str) {
        let others = self.others();
        for outbox in others.values().filter_map(|other| other.outboxes.first()) {
            // If it can't be sent, the connection is about to end.
            let _ = outbox.send(line.to_owned());
        }
    }

    fn lose(&self, id: u64) {
        if let Some(other) = self.others().remove(&id) {
            show(&format!("* {} is gone", other.name));
        }
    }

    fn others(&self) -> MutexGuard<'_, HashMap<u64, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deliver(outbox: Receiver<String>, mut stream: impl Write, socket: &TcpStream) {
    for line in outbox {
        if stream.write_all(format!("{line}\n").as_bytes()).is_err() {
            // It takes nothing, or is gone: who reads shall know.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
}

fn introduction(line: &str) -> Option<(u64, SocketAddr, String)> {
    let mut words = line.splitn(3, ' ');
    let (id, addr) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((id, addr, printable(words.next()?)))
}

fn next_line(input: &mut impl BufRead, longest: u64) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    input.take(longest).read_until(b'\n', &mut line)?;
    let text = String::from_utf8_lossy(&line);
    Ok((!line.is_empty()).then(|| text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Escapes what a terminal would obey rather than show.
fn printable(text: &str) -> String {
    let escape = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.into()
        }
    };
    text.chars().map(escape).collect()
}

/// A line on the screen, if there still is one.
fn show(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
