//! A client socket: connects by name, sends, receives, and closes.
//!
//! ```sh
//! cargo run --example echo    # or any other server
//! cargo run --example client -- localhost:7007 'hello, world'
//! ```

mod support;

use std::env;
use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;

use support::{TIMEOUT, complain, connect, print, printable, resolve, within};

/// The most bytes of a reply, because some servers never stop sending.
const LONGEST: u64 = 1 << 20;

fn main() -> ExitCode {
    let mut args = env::args_os().map(|arg| arg.to_string_lossy().into_owned());
    let server = args.nth(1).unwrap_or_else(|| "localhost:7007".to_owned());
    let message = args.next().unwrap_or_else(|| "hello".to_owned());
    match resolve(&server).and_then(|addrs| ask(connect(&addrs)?, message)) {
        Ok(reply) => {
            print(format_args!("{}", printable(&reply)));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(format_args!("{server}: {}", explain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn ask(stream: TcpStream, message: String) -> io::Result<Vec<u8>> {
    let late = Err(ErrorKind::TimedOut.into());
    within(TIMEOUT, move || exchange(stream, &message)).unwrap_or(late)
}

fn exchange(mut stream: TcpStream, message: &str) -> io::Result<Vec<u8>> {
    stream.write_all(message.as_bytes())?;
    // Half-close: the server reads end of file, and can still reply.
    stream.shutdown(Shutdown::Write)?;
    let mut reply = Vec::new();
    stream.take(LONGEST + 1).read_to_end(&mut reply)?;
    if reply.len() as u64 > LONGEST {
        return Err(Error::other(format!(
            "the server sends more than {LONGEST} bytes"
        )));
    }
    Ok(reply)
}

fn explain(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            "no program listens there; is the server running?".to_owned()
        }
        ErrorKind::TimedOut => format!("the answer did not end within {TIMEOUT:?}"),
        ErrorKind::ConnectionReset => "the server hung up".to_owned(),
        _ => error.to_string(),
    }
}
