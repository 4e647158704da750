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

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Sender, TryRecvError, channel};
use std::time::Instant;
use std::{env, thread};

fn main() -> ExitCode {
    let server = env::args_os().nth(1).unwrap_or("localhost:7007".into());
    let server = server.to_string_lossy();
    if let Err(error) = talk(&server) {
        eprintln!("{server}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn talk(server: &str) -> Result<(), Box<dyn Error>> {
    let stream = TcpStream::connect(server)?;
    // Otherwise a short line may wait here for the one before to be acknowledged (Nagle).
    stream.set_nodelay(true)?;
    eprintln!("connected to {}", stream.peer_addr()?);
    let sender = stream.try_clone()?;
    let (sent, under_way) = channel();
    // Not joined: when the server is gone, this one still waits for the keyboard.
    thread::spawn(move || send(sender, sent));

    let (mut server, mut screen) = (BufReader::new(stream), io::stdout());
    loop {
        let ended = server.fill_buf()?.is_empty();
        let (length, start) = match under_way.try_recv() {
            Ok(sent) => sent,
            Err(TryRecvError::Disconnected) if ended => return Ok(()),
            Err(_) if ended => return Err("the server hung up".into()),
            Err(_) => return Err("it sent what nobody asked for: no echo server".into()),
        };
        if io::copy(&mut server.by_ref().take(length), &mut screen)? < length {
            return Err("the server hung up".into());
        }
        let time = start.elapsed();
        screen.flush()?;
        // Not with the echo, which may be wanted in a file.
        eprintln!("    {length} bytes, {:.3} ms", time.as_secs_f64() * 1e3);
    }
}

/// Sends what is typed, and tells the length of each line, and when it was sent.
fn send(mut server: TcpStream, sent: Sender<(u64, Instant)>) -> io::Result<()> {
    let (mut keyboard, mut line) = (io::stdin().lock(), Vec::new());
    while let Ok(n @ 1..) = keyboard.read_until(b'\n', &mut line) {
        let _ = sent.send((n as u64, Instant::now()));
        server.write_all(&line)?;
        line.clear();
    }
    drop(sent);
    // "That was all": the server sends what is left of the echo, and then its own end.
    server.shutdown(Shutdown::Write)
}
