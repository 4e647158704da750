//! A client to talk through: each line you type comes back, and how long that took.
//!
//! ```sh
//! cargo run                                              # echod, or any other echo server
//! cargo run --example echo_client -- localhost:7007      # in another terminal: type; Ctrl-D ends
//! ```
//!
//! One thread sends, the other receives. With one for both, a line that is longer than what the
//! kernel holds on the way would be the end: the client would wait for the server to take the rest,
//! and the server for the client to take the echo.

use std::env;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::Instant;

fn main() -> ExitCode {
    let server = env::args_os().nth(1).unwrap_or("localhost:7007".into());
    let server = server.to_string_lossy();
    match TcpStream::connect(&*server).and_then(talk) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{server}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn talk(stream: TcpStream) -> io::Result<()> {
    // Otherwise a short line may wait here for the one before to be acknowledged (Nagle).
    stream.set_nodelay(true)?;
    eprintln!("connected to {}", stream.peer_addr()?);
    let (sent, under_way) = channel();
    let stream = Arc::new(stream);
    let sender = Arc::clone(&stream);
    // Not joined: when the server is gone, this one still waits for the keyboard.
    thread::spawn(move || send(&sender, sent));
    receive(&stream, &under_way)
}

/// The length of a line, and when it was sent.
type Sent = (u64, Instant);

fn send(mut server: &TcpStream, sent: Sender<Sent>) {
    let mut keyboard = io::stdin().lock();
    let mut line = Vec::new();
    while let Ok(n @ 1..) = keyboard.read_until(b'\n', &mut line) {
        let announced = sent.send((n as u64, Instant::now()));
        if announced.is_err() || server.write_all(&line).is_err() {
            // The other thread learns why.
            return;
        }
        line.clear();
    }
    drop(sent);
    // "That was all": the server sends what is left of the echo, and then its own end.
    let _ = server.shutdown(Shutdown::Write);
}

fn receive(server: &TcpStream, under_way: &Receiver<Sent>) -> io::Result<()> {
    let mut server = BufReader::new(server);
    let mut screen = io::stdout().lock();
    loop {
        let ended = server.fill_buf()?.is_empty();
        let (length, start) = match under_way.try_recv() {
            Ok(sent) => sent,
            Err(TryRecvError::Disconnected) if ended => return Ok(()),
            Err(TryRecvError::Empty) if ended => return Err(hung_up()),
            Err(_) => {
                return Err(io::Error::other(
                    "it sent what nobody asked for: no echo server",
                ));
            }
        };
        if io::copy(&mut server.by_ref().take(length), &mut screen)? < length {
            return Err(hung_up());
        }
        screen.flush()?;
        // Not with the echo, which may be wanted in a file.
        eprintln!(
            "    {length} bytes, {:.3} ms",
            start.elapsed().as_secs_f64() * 1e3
        );
    }
}

fn hung_up() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")
}
