//! An echo of WebSocket messages, by tungstenite.
//!
//! ```sh
//! cargo run --example websocket
//! python3 -m websockets ws://127.0.0.1:7007   # in another terminal: type lines; Ctrl-D ends it
//! ```
//!
//! The server sends a ping to a client that is silent. If the client does not answer, it is gone or hangs,
//! and the server closes the connection. When the server stops, clients get the close code 1001, "going
//! away".

#[path = "support/serve.rs"]
mod serve;
mod support;

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socketserver::{Connection, RequestHandler, TcpServer};
use tungstenite::protocol::frame::{CloseFrame, coding::CloseCode};
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Error as WsError, HandshakeError, Message};

/// Time limit for the HTTP request that begins a WebSocket, and for the close frame.
const LIMIT: Duration = Duration::from_secs(5);
/// The largest message, in bytes. The server holds one message of each client in memory.
const LARGEST: usize = 1 << 20;

struct Echo {
    /// The server sends a ping to a client that has sent nothing for this long.
    ping_after: Duration,
}

impl RequestHandler for Echo {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let conn = &*conn;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(LARGEST))
            .max_frame_size(Some(LARGEST));
        conn.set_deadline(Instant::now() + LIMIT);
        let mut socket = tungstenite::accept_with_config(Stream(conn), Some(config)).map_err(
            |error| match error {
                HandshakeError::Failure(error) => to_io(error),
                HandshakeError::Interrupted(_) => ErrorKind::ConnectionAborted.into(),
            },
        )?;
        conn.set_deadline(None);
        conn.set_idle_timeout(self.ping_after);
        let code = match echo(&mut socket) {
            Ok(code) => code,
            Err(WsError::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(to_io(error)),
        };
        conn.set_deadline(Instant::now() + LIMIT);
        let reason = "".into();
        // After `handle` the server sends a FIN, and discards what the client still sends.
        let closed = socket.close(Some(CloseFrame { code, reason }));
        closed.map_err(to_io)
    }
}

/// Sends messages back. Returns the code to close the WebSocket with.
fn echo(socket: &mut WebSocket<Stream<'_>>) -> tungstenite::Result<CloseCode> {
    let mut is_pinged = false;
    loop {
        match socket.read() {
            Ok(message) => {
                is_pinged = false;
                // tungstenite itself answers the client's pings and its close.
                if message.is_text() || message.is_binary() {
                    socket.send(message)?;
                }
            }
            // The idle timeout. Reading can go on after it, even within a message.
            Err(WsError::Io(error)) if error.kind() == ErrorKind::TimedOut && !is_pinged => {
                is_pinged = true;
                socket.send(Message::Ping(Bytes::new()))?;
            }
            Err(WsError::Io(error)) if error.kind() == ErrorKind::TimedOut => {
                return Ok(CloseCode::Error);
            }
            Err(WsError::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(CloseCode::Away);
            }
            Err(WsError::Capacity(_)) => return Ok(CloseCode::Size),
            Err(WsError::Utf8(_)) => return Ok(CloseCode::Invalid),
            Err(WsError::Protocol(_)) => return Ok(CloseCode::Protocol),
            Err(error) => return Err(error),
        }
    }
}

fn to_io(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        error => io::Error::new(ErrorKind::InvalidData, error),
    }
}

/// The connection, with another end of file for tungstenite.
///
/// When the server stops, reads return an end of file, and after an end of file tungstenite sends no close
/// frame. So reads of this stream then fail with `WouldBlock`, which tungstenite does not take for the end.
struct Stream<'c>(&'c Connection);

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buf)? {
            0 if self.0.is_closing() => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = support::argument(1, "127.0.0.1:7007");
    let ping_after = Duration::from_secs(support::argument(2, "20").parse()?);
    let builder = TcpServer::builder().write_timeout(Duration::from_secs(20));
    serve::serve(builder, &addr, move || Echo { ping_after })
}
