//! A client: connect by name, send, receive, close.
//!
//! ```sh
//! cargo run --example echo    # or any other server
//! cargo run --example client -- localhost:7007 'hello, world'
//! ```

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let server = args.next().unwrap_or_else(|| "localhost:7007".to_owned());
    let message = args.next().unwrap_or_else(|| "hello".to_owned());
    match connect(&server).and_then(|stream| ask(stream, &message)) {
        Ok(reply) => {
            println!("{reply}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{server}: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// A name may have several addresses: the first that answers is good.
fn connect(server: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for addr in server.to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask(mut stream: TcpStream, message: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(message.as_bytes())?;
    // Half-close: "that was all". The server sees end of file, and can still reply.
    stream.shutdown(Shutdown::Write)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there; is the server running?".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            "no answer; is a firewall between?".to_owned()
        }
        ErrorKind::ConnectionReset => "the server hung up".to_owned(),
        ErrorKind::InvalidInput => "write the address as HOST:PORT".to_owned(),
        _ => error.to_string(),
    }
}
