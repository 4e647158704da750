//! Peer to peer: a chat in which every program is a client and a server.
//!
//! ```sh
//! cargo run --example peer -- ann 127.0.0.1:7001
//! cargo run --example peer -- bob 127.0.0.1:7002 127.0.0.1:7001    # in another terminal
//! cargo run --example peer -- cem 127.0.0.1:7003 127.0.0.1:7002    # and so on; Ctrl-D leaves
//! ```
//!
//! A peer sends on the connections that it opens, and receives on the connections that it accepts. The
//! first line that it sends has its name, its address, and the addresses of all peers that it knows. Then
//! it sends what its user types. A peer that has accepted a connection connects back, and connects to the
//! addresses in the first line that are new to it.
//!
//! So every peer is connected to every other, and sends each line once to each. No peer passes on the
//! lines of others. So no line arrives twice or circulates for ever, and if a peer leaves, the others stay
//! connected. No peer proves its name: any program may use any name.

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

/// Time limit for another peer to read what is sent to it, and to connect back.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of a line, as in a terminal. A longer line counts as several.
const LONGEST: u64 = 4096;

/// The peer that this program is.
struct Me {
    addr: SocketAddr,
    name: String,
    others: Mutex<BTreeMap<SocketAddr, Other>>,
}

/// Another peer, which this one has connected to. It has a name as soon as it has connected back.
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
    thread::spawn(|| server.serve_forever(from_fn(move |conn| host.receive(conn))));
    args.for_each(|peer| me.contact(peer));

    let mut keyboard = io::stdin().lock();
    while let Some(mut line) = next_line(&mut keyboard) {
        line.push(b'\n');
        // A write fails if the other peer has gone, or has read nothing for `TIMEOUT`. Then forget it.
        let mut others = me.others();
        others.retain(|_, other| other.stream.write_all(&line).is_ok());
    }
    ExitCode::SUCCESS
}

impl Me {
    /// Connects to a peer, and complains if the peer does not connect back.
    fn contact(self: &Arc<Self>, peer: String) {
        let me = Arc::clone(self);
        thread::spawn(move || match me.greet(&peer) {
            Ok(addr) => {
                thread::sleep(TIMEOUT);
                let others = me.others();
                if others.get(&addr).is_some_and(|other| other.name.is_none()) {
                    complain(format_args!(
                        "* {peer}: no connection came back; is that a peer?"
                    ));
                }
            }
            Err(error) => complain(format_args!("* {peer}: {error}")),
        });
    }

    /// Connects to a peer, and sends the first line.
    ///
    /// Of any two peers that this one connects to, the later gets the address of the earlier.
    fn greet(&self, peer: &str) -> io::Result<SocketAddr> {
        let mut stream = connect(&resolve(peer)?)?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let addr = stream.peer_addr()?;
        let is_here = self.addr.ip().is_unspecified() && stream.local_addr()?.ip() == addr.ip();
        if addr == self.addr || (is_here && addr.port() == self.addr.port()) {
            return Err(io::Error::other("this is my own address"));
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

    /// Prints the lines of a peer that has connected, until it leaves.
    fn receive(self: &Arc<Self>, conn: &Connection) -> io::Result<()> {
        let mut lines = BufReader::new(conn);
        let hello = printable(&next_line(&mut lines).unwrap_or_default());
        let (name, addrs) = hello.rsplit_once(' ').ok_or(ErrorKind::InvalidData)?;
        let mut addrs = addrs.split(',').map_while(|addr| addr.parse().ok());
        let mut addr: SocketAddr = addrs.next().ok_or(ErrorKind::InvalidData)?;
        if addr.ip().is_unspecified() {
            // The peer listens at every address of its machine. The connection comes from one of them.
            addr.set_ip(conn.peer_addr().ip());
        }
        if !self.others().contains_key(&addr) {
            self.greet(&addr.to_string())?;
        }
        match self.others().get_mut(&addr) {
            Some(other) if other.name.is_none() => other.name = Some(name.to_owned()),
            // Another connection already has a name for this address.
            _ => return Err(ErrorKind::AddrInUse.into()),
        }
        print(format_args!("* {name} is here"));
        let unknown = addrs.filter(|addr| !self.others().contains_key(addr));
        unknown.for_each(|addr| self.contact(addr.to_string()));
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
