//! Peer to peer: a chat in which everybody is client and server.
//!
//! ```sh
//! cargo run --example peer -- ann 127.0.0.1:7001
//! cargo run --example peer -- bob 127.0.0.1:7002 127.0.0.1:7001    # in another terminal
//! cargo run --example peer -- cem 127.0.0.1:7003 127.0.0.1:7002    # and so on; Ctrl-D leaves
//! ```
//!
//! Everybody speaks on the connections that he makes, and hears on those that he accepts. He sends
//! lines: first his name, his address, and those of all he knows; then what he types. Who is called
//! calls back, and calls those that are new to him.
//!
//! So everybody is connected to everybody, and says things once to each. Nobody passes on what
//! others say: nothing arrives twice or goes round for ever, and whoever leaves takes only himself
//! away. Nobody has to prove that he is who he says.

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, iter, thread};

use socketserver::{Connection, TcpServer, from_fn};
use support::{complain, connect, print, printable, resolve};

/// How long others may take: to make room for what is said, and to call back.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How many bytes a line may have, as in a terminal; what is longer counts as several.
const LONGEST: u64 = 4096;

/// Whoever runs this.
struct Me {
    addr: SocketAddr,
    name: String,
    others: Mutex<BTreeMap<SocketAddr, Other>>,
}

/// One who has been called; and, if he has a name, has called back.
struct Other {
    stream: TcpStream,
    name: Option<String>,
}

fn main() -> ExitCode {
    let mut args = env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let (Some(name), Some(addr)) = (args.nth(1), args.next()) else {
        complain("usage: peer NAME LISTEN [PEER]...");
        return ExitCode::from(2);
    };
    let addrs = match resolve(&addr) {
        Ok(addrs) => addrs,
        Err(error) => {
            complain(format_args!("{addr}: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let server = match TcpServer::bind(&*addrs) {
        Ok(server) => server,
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            complain(format_args!("{error}: {}", cause.unwrap_or_default()));
            return ExitCode::FAILURE;
        }
    };
    let (addr, others) = (server.local_addr(), Mutex::default());
    let me = Arc::new(Me { addr, name, others });
    print(format_args!("* listening at {addr}"));
    let host = Arc::clone(&me);
    thread::spawn(|| server.serve_forever(from_fn(move |conn| host.hear(conn))));
    args.for_each(|peer| me.call(peer));

    let mut keyboard = io::stdin().lock();
    while let Some(mut line) = next_line(&mut keyboard) {
        line.push(b'\n');
        // Who is gone, or takes nothing for too long, is spoken to no more.
        let mut others = me.others();
        others.retain(|_, other| other.stream.write_all(&line).is_ok());
    }
    ExitCode::SUCCESS
}

impl Me {
    /// Begins to speak to a peer, who has to call back to be heard.
    fn call(self: &Arc<Self>, peer: String) {
        let me = Arc::clone(self);
        thread::spawn(move || match me.greet(&peer) {
            Ok(addr) => {
                thread::sleep(TIMEOUT);
                let others = me.others();
                if others.get(&addr).is_some_and(|other| other.name.is_none()) {
                    complain(format_args!("* {peer}: nobody calls back; is that a peer?"));
                }
            }
            Err(error) => complain(format_args!("* {peer}: {error}")),
        });
    }

    /// Connects, and says who is here: of any two, the one who comes later hears of the other.
    fn greet(&self, peer: &str) -> io::Result<SocketAddr> {
        let mut stream = connect(&resolve(peer)?)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let addr = stream.peer_addr()?;
        let is_here = self.addr.ip().is_unspecified() && stream.local_addr()?.ip() == addr.ip();
        if addr == self.addr || (is_here && addr.port() == self.addr.port()) {
            return Err(io::Error::other("that is myself"));
        }
        let mut others = self.others();
        if !others.contains_key(&addr) {
            let addrs = iter::once(&self.addr).chain(others.keys());
            let addrs: Vec<_> = addrs.map(SocketAddr::to_string).collect();
            let hello = format!("{} {}\n", self.name, addrs.join(","));
            stream.write_all(hello.as_bytes())?;
            others.insert(addr, Other { stream, name: None });
        }
        Ok(addr)
    }

    /// Hears out a peer, who has connected.
    fn hear(self: &Arc<Self>, conn: &Connection) -> io::Result<()> {
        let mut lines = BufReader::new(conn);
        let hello = printable(&next_line(&mut lines).unwrap_or_default());
        let (name, addrs) = hello.rsplit_once(' ').ok_or(ErrorKind::InvalidData)?;
        let mut addrs = addrs.split(',').map_while(|addr| addr.parse().ok());
        let mut addr: SocketAddr = addrs.next().ok_or(ErrorKind::InvalidData)?;
        if addr.ip().is_unspecified() {
            // It listens at every address it has: this is one.
            addr.set_ip(conn.peer_addr().ip());
        }
        if !self.others().contains_key(&addr) {
            self.greet(&addr.to_string())?;
        }
        match self.others().get_mut(&addr) {
            Some(other) if other.name.is_none() => other.name = Some(name.to_owned()),
            // Somebody else is there.
            _ => return Err(ErrorKind::AddrInUse.into()),
        }
        print(format_args!("* {name} is here"));
        let unknown = addrs.filter(|addr| !self.others().contains_key(addr));
        unknown.for_each(|addr| self.call(addr.to_string()));
        while let Some(line) = next_line(&mut lines) {
            print(format_args!("{name}: {}", printable(&line)));
        }
        self.others().remove(&addr);
        Ok(())
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Other>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            print(format_args!("* {name} is gone"));
        }
    }
}

fn next_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let length = input.take(LONGEST).read_until(b'\n', &mut line).ok()?;
    (length > 0).then(|| line.trim_ascii_end().to_vec())
}
