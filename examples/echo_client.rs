//! A client of an echo server: sends each line you type, prints its echo, and says how long that took.
//!
//! ```sh
//! cargo run                                              # echod, or any other echo server
//! cargo run --example echo_client -- localhost:7007      # in another terminal: type; Ctrl-D ends
//! ```
//!
//! One thread sends, the other receives. A single thread could block for ever on a line that is larger
//! than all socket buffers on the way: the client would wait until the server reads the rest, and the
//! server would wait until the client reads the echo.

mod support;

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use std::{env, thread};

use support::{TIMEOUT, complain, connect, printable, printed, resolve};

/// The most bytes to read at once. A longer line counts as several.
const LONGEST: usize = 64 * 1024;

/// What the two threads report to the main thread.
enum Event {
    /// A line of this many bytes is about to be sent.
    Line(usize, Instant),
    /// No line will follow.
    AllSent,
    Received(Vec<u8>),
    /// The server has ended the connection.
    Ended(io::Result<()>),
}

fn main() -> ExitCode {
    let server = env::args_os().nth(1).unwrap_or("localhost:7007".into());
    let server = server.to_string_lossy();
    if let Err(error) = talk(&server) {
        complain(format_args!("{server}: {error}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn talk(server: &str) -> Result<(), Box<dyn Error>> {
    let stream = connect(&resolve(server)?)?;
    // Otherwise a short line may wait until the line before it is acknowledged (Nagle's algorithm).
    stream.set_nodelay(true)?;
    complain(format_args!("connected to {}", stream.peer_addr()?));
    let sender = stream.try_clone()?;
    // The channel is bounded, so that a server that sends too much can't fill the memory.
    let (sending, events) = sync_channel(16);
    let receiving = sending.clone();
    // Don't join these threads: when the server is gone, the sending thread still waits for the keyboard.
    thread::spawn(move || send(sender, &sending));
    thread::spawn(move || receive(stream, &receiving));

    let (mut lines, mut all_sent, mut echo) = (VecDeque::new(), false, Vec::new());
    // When the server should have begun to send the rest of a line, or its FIN.
    let mut since = Instant::now();
    loop {
        let patience = if lines.is_empty() && !all_sent {
            // The server owes nothing until the user types.
            Duration::MAX
        } else {
            TIMEOUT.saturating_sub(since.elapsed())
        };
        match events.recv_timeout(patience) {
            Ok(Event::Line(length, start)) => {
                if lines.is_empty() {
                    since = start;
                }
                lines.push_back((length, start));
            }
            Ok(Event::AllSent) => {
                all_sent = true;
                since = Instant::now();
            }
            Ok(Event::Received(bytes)) => echo.extend(bytes),
            Ok(Event::Ended(result)) => {
                show(&echo);
                result?;
                if all_sent && lines.is_empty() {
                    return Ok(());
                }
                return Err("the server hung up".into());
            }
            Err(RecvTimeoutError::Timeout) => {
                show(&echo);
                return Err(format!("not done within {TIMEOUT:?}").into());
            }
            Err(error) => return Err(error.into()),
        }
        while let Some(&(length, start)) = lines.front()
            && length <= echo.len()
        {
            show(&echo[..length]);
            // Standard output has only the echo, because it may be redirected to a file.
            let millis = start.elapsed().as_secs_f64() * 1e3;
            complain(format_args!("    {length} bytes, {millis:.3} ms"));
            echo.drain(..length);
            lines.pop_front();
            since = Instant::now();
        }
        if lines.is_empty() && !echo.is_empty() {
            return Err("no echo server: it sent more than it got".into());
        }
    }
}

/// Prints a part of the echo. On a terminal, escapes control characters, which the terminal would obey.
fn show(echo: &[u8]) {
    let mut screen = io::stdout();
    let text = screen.is_terminal().then(|| printable(echo));
    let bytes = text.as_ref().map_or(echo, String::as_bytes);
    printed(screen.write_all(bytes).and_then(|()| screen.flush()));
}

/// Sends standard input, line by line, then half-closes.
fn send(mut server: TcpStream, events: &SyncSender<Event>) -> io::Result<()> {
    let (mut keyboard, mut line) = (io::stdin().lock(), Vec::new());
    while let Ok(n @ 1..) = (&mut keyboard)
        .take(LONGEST as u64)
        .read_until(b'\n', &mut line)
    {
        let _ = events.send(Event::Line(n, Instant::now()));
        server.write_all(&line)?;
        line.clear();
    }
    let _ = events.send(Event::AllSent);
    // The server then sends the rest of the echo, and its own FIN.
    server.shutdown(Shutdown::Write)
}

/// Receives until the server ends the connection.
fn receive(mut server: TcpStream, events: &SyncSender<Event>) {
    let mut buffer = vec![0; LONGEST];
    let ended = loop {
        match server.read(&mut buffer) {
            Ok(0) => break Ok(()),
            Ok(n) => {
                let _ = events.send(Event::Received(buffer[..n].to_vec()));
            }
            Err(error) => break Err(error),
        }
    };
    let _ = events.send(Event::Ended(ended));
}
