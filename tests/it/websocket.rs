//! The example `websocket`, with Python's `websockets`, tungstenite's client, and by hand.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

use crate::support::{Session, connect, drip, noise, serving, skip};

/// Returns a Python with the package `websockets`. Debian's package is for Debian's Python.
fn python() -> Option<Command> {
    let interpreters = ["python3", "/usr/bin/python3"].into_iter();
    let found = interpreters.map(Command::new).find_map(|mut python| {
        let imported = python.args(["-c", "import websockets"]).output();
        imported
            .is_ok_and(|output| output.status.success())
            .then(|| Command::new(python.get_program()))
    });
    if found.is_none() {
        skip("no websockets in Debian's Python (python3-websockets)");
    }
    found
}

/// Runs a Python script with `ws`, a connection that sends no pings of its own.
fn run_python(mut python: Command, addr: SocketAddr, script: &str) -> Session {
    let script = script.replace('\n', "\n        ");
    let script = format!(
        "\
import asyncio, websockets
async def main():
    async with websockets.connect('ws://{addr}', ping_interval=None) as ws:
        {script}
asyncio.run(asyncio.wait_for(main(), 30))
"
    );
    Session::start(python.args(["-c", &script]))
}

/// Connects by tungstenite, without limits on what the client may send.
fn client(addr: SocketAddr) -> WebSocket<TcpStream> {
    let config = WebSocketConfig::default();
    let url = format!("ws://{addr}");
    let joined = tungstenite::client::client_with_config(url, connect(addr), Some(config));
    joined.unwrap().0
}

/// Connects by hand, because tungstenite's client may read frames together with the reply to the handshake.
fn connect_by_hand(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = Vec::new();
    while !reply.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        reply.extend(byte);
    }
    assert!(reply.starts_with(b"HTTP/1.1 101 "), "{reply:?}");
    stream
}

/// Returns a frame of a client, with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    [&[first, 0x80 | len, 0, 0, 0, 0], payload].concat()
}

/// Reads until the end, and returns the code of the last close frame.
fn close_code(stream: &TcpStream) -> u16 {
    // Limit the time, because a broken server might send pings for ever.
    let mut all = Vec::new();
    stream.take(20).read_to_end(&mut all).unwrap();
    let end = all
        .len()
        .checked_sub(4)
        .unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!(all[end..][..2], [0x88, 2], "{all:?}");
    u16::from_be_bytes([all[end + 2], all[end + 3]])
}

#[test]
fn pythons_websockets_gets_its_echo_and_at_a_stop_going_away() {
    let Some(python) = python() else { return };
    let (server, addr) = serving("websocket", &["127.0.0.1:0"]);
    let script = "
for message in ['hello', 'grüße', '', b'\\0\\xff', b'x' * 1000000]:
    await ws.send(message)
    assert await ws.recv() == message
await ws.send(['in ', 'two ', 'parts'])
assert await ws.recv() == 'in two parts'
await (await ws.ping())
print('ready', flush=True)
try:
    await ws.recv()
except websockets.ConnectionClosed as closed:
    print(closed.code)";
    let client = run_python(python, addr, script);
    client.stdout.wait_for("ready\n");
    server.signal(Signal::TERM);
    let ended = client.ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, b"ready\n1001\n");
    let ended = server.ends();
    assert_eq!(ended.code, Some(0));
    let log = ended.stderr;
    assert!(
        log.contains("reason=shutdown") && log.contains("aborted=0"),
        "{log}"
    );
}

#[test]
fn a_close_of_pythons_websockets_is_answered() {
    let Some(python) = python() else { return };
    let (server, addr) = serving("websocket", &["127.0.0.1:0"]);
    let script = "
await ws.close(4321, 'enough')
print(ws.close_code)";
    let ended = run_python(python, addr, script).ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // Without an answer, the code would be 1006.
    assert_eq!(ended.stdout, b"4321\n");
    server.gets(Signal::TERM);
}

#[test]
fn a_silent_client_that_answers_pings_stays() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0", "2"]);
    let mut client = client(addr);
    // The second ping comes only if the first was answered.
    for _ in 0..2 {
        assert_eq!(client.read().unwrap(), Message::Ping("".into()));
    }
    client.send(Message::text("hello")).unwrap();
    assert_eq!(client.read().unwrap(), Message::text("hello"));
    server.gets(Signal::TERM);
}

#[test]
fn a_client_that_answers_no_ping_is_closed() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0", "1"]);
    let mut stream = connect_by_hand(addr);
    let mut ping = [0; 2];
    stream.read_exact(&mut ping).unwrap();
    assert_eq!(ping, [0x89, 0]);
    assert_eq!(close_code(&stream), 1011);
    server.stderr.wait_for("reason=idle");
    server.gets(Signal::TERM);
}

#[test]
fn a_ping_within_a_message_leaves_it_whole() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0", "2"]);
    let mut stream = connect_by_hand(addr);
    let message = frame(0x81, b"hello");
    stream.write_all(&message[..8]).unwrap();
    let mut ping = [0; 2];
    stream.read_exact(&mut ping).unwrap();
    assert_eq!(ping, [0x89, 0]);
    stream.write_all(&message[8..]).unwrap();
    let mut echo = [0; 7];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"\x81\x05hello");
    server.gets(Signal::TERM);
}

#[test]
fn a_message_may_have_one_mebibyte() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0"]);
    let mut client = client(addr);
    let largest = Message::binary(noise(1, 1 << 20));
    client.send(largest.clone()).unwrap();
    assert_eq!(client.read().unwrap(), largest);
    // Send only the header, which announces the length, so that the server leaves nothing unread.
    let too_long = [
        &[0x82, 0xff][..],
        &((1 << 20) + 1_u64).to_be_bytes(),
        &[0; 4],
    ]
    .concat();
    client.get_mut().write_all(&too_long).unwrap();
    let Message::Close(Some(close)) = client.read().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!(close.code, CloseCode::Size);
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    server.gets(Signal::TERM);
}

#[test]
fn a_client_that_breaks_the_protocol_gets_the_code_for_it() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0"]);
    for (sent, code) in [
        // The frames: without a mask, with a reserved bit, a continuation of nothing, not UTF-8.
        (b"\x81\x01a".to_vec(), 1002),
        (frame(0xc1, b"a"), 1002),
        (frame(0x80, b"a"), 1002),
        (frame(0x81, b"\xff"), 1007),
    ] {
        let mut stream = connect_by_hand(addr);
        stream.write_all(&sent).unwrap();
        assert_eq!(close_code(&stream), code, "{sent:?}");
    }
    server.gets(Signal::TERM);
}

#[test]
fn a_dripping_request_ends_at_its_deadline() {
    let (server, addr) = serving("websocket", &["127.0.0.1:0"]);
    let request = format!("GET /{} HTTP/1.1\r\n", "x".repeat(200));
    let took = drip(addr, request.as_bytes()).unwrap();
    let expected = Duration::from_secs(5)..Duration::from_secs(15);
    assert!(expected.contains(&took), "{took:?}");
    server.stderr.wait_for("reason=deadline");
    server.gets(Signal::TERM);
}
