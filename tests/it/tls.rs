//! The example `tls`, with common TLS clients.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Session, available, connect, drip, serving};

/// Starts the example. Returns the process, its address, and the file with its certificate.
fn start() -> (Session, SocketAddr, String) {
    let (server, addr) = serving("tls", &["127.0.0.1:0"]);
    server.stdout.wait_for("-----END CERTIFICATE-----\n");
    let path = format!("{}/{}.pem", env!("CARGO_TARGET_TMPDIR"), addr.port());
    fs::write(&path, server.stdout.text()).unwrap();
    (server, addr, path)
}

fn openssl(addr: SocketAddr, cert: &str) -> Session {
    let addr = addr.to_string();
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-quiet",
        "-verify_return_error",
        "-CAfile",
        cert,
    ]);
    Session::start(command.args(["-verify_hostname", "localhost", "-connect", &addr]))
}

/// Runs a Python script with `tls`, a connection of Python's `ssl` with the given version of TLS.
fn python(addr: SocketAddr, cert: &str, version: &str, script: &str) -> Session {
    let connect = format!(
        "\
import socket, ssl
context = ssl.create_default_context(cafile='{cert}')
context.minimum_version = context.maximum_version = ssl.TLSVersion.{version}
plain = socket.create_connection(('127.0.0.1', {}), timeout=30)
tls = context.wrap_socket(plain, server_hostname='localhost', suppress_ragged_eofs=False)
def receive(count):
    data = b''
    while len(data) < count:
        part = tls.recv(count - len(data))
        assert part
        data += part
    return data
",
        addr.port()
    );
    Session::start(Command::new("python3").args(["-c", &(connect + script)]))
}

#[test]
fn openssl_gets_its_echo_and_at_a_stop_the_end_of_the_session() {
    if !available(&["openssl"]) {
        return;
    }
    let (server, addr, cert) = start();
    let mut client = openssl(addr, &cert);
    client.types("hello\n");
    client.stdout.wait_for("hello\n");
    server.signal(Signal::TERM);
    // Without the alert `close_notify`, `openssl` would report an "unexpected eof" and exit with 1.
    let ended = client.ends();
    assert!(!ended.stderr.contains("unexpected eof"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, b"hello\n");
    let ended = server.ends();
    assert_eq!(ended.code, Some(0));
    let log = ended.stderr;
    assert!(
        log.contains("reason=shutdown") && log.contains("aborted=0"),
        "{log}"
    );
}

#[test]
fn pythons_ssl_gets_its_echo_and_both_say_goodbye() {
    if !available(&["python3"]) {
        return;
    }
    let (server, addr, cert) = start();
    for version in ["TLSv1_2", "TLSv1_3"] {
        let script = "
# On one thread, because two can not use one session at the same time.
for size in [1, 1000, 16385, 100000]:
    message = bytes(i % 251 for i in range(size))
    tls.sendall(message)
    assert receive(size) == message
print(tls.version())
# It fails unless the server's close_notify follows.
tls.unwrap()
";
        let ended = python(addr, &cert, version, script).ends();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(
            ended.stdout,
            format!("{}\n", version.replace('_', ".")).as_bytes()
        );
    }
    server.gets(Signal::TERM);
}

#[test]
fn five_megabytes_each_way_at_the_same_time_arrive_intact() {
    if !available(&["python3"]) {
        return;
    }
    let (server, addr, cert) = start();
    // The script uses asyncio, because a session of Python's `ssl` is for one thread at a time.
    let script = format!(
        "\
import asyncio, os, ssl
async def main():
    context = ssl.create_default_context(cafile='{cert}')
    data = os.urandom(5000000)
    reader, writer = await asyncio.open_connection(
        '127.0.0.1', {}, ssl=context, server_hostname='localhost')
    writer.write(data)
    echo, _ = await asyncio.gather(reader.readexactly(len(data)), writer.drain())
    assert echo == data
    writer.close()
    await writer.wait_closed()
asyncio.run(asyncio.wait_for(main(), 30))
",
        addr.port()
    );
    let ended = Session::start(Command::new("python3").args(["-c", &script])).ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    server.gets(Signal::TERM);
}

#[test]
fn pythons_ssl_gets_a_close_notify_at_a_stop() {
    if !available(&["python3"]) {
        return;
    }
    for version in ["TLSv1_2", "TLSv1_3"] {
        let (server, addr, cert) = start();
        let script = "
tls.sendall(b'hello')
print(receive(5), flush=True)
# It raises an SSLEOFError where there is an end without close_notify.
print(tls.recv(1))
";
        let client = python(addr, &cert, version, script);
        client.stdout.wait_for("b'hello'\n");
        server.signal(Signal::TERM);
        let ended = client.ends();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stdout, b"b'hello'\nb''\n");
        assert_eq!(server.ends().code, Some(0));
    }
}

#[test]
fn a_dripping_handshake_ends_at_its_deadline_and_a_completed_one_does_not() {
    if !available(&["openssl"]) {
        return;
    }
    let (server, addr, cert) = start();
    let mut client = openssl(addr, &cert);
    client.types("hello\n");
    client.stdout.wait_for("hello\n");
    // The beginning of a ClientHello of 508 bytes.
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(200, 7);
    let took = drip(addr, &hello).unwrap();
    let expected = Duration::from_secs(5)..Duration::from_secs(15);
    assert!(expected.contains(&took), "{took:?}");
    server.stderr.wait_for("reason=deadline");
    // This client's handshake ended longer ago than the limit, and the connection is still open.
    client.types("still here\n");
    client.stdout.wait_for("still here\n");
    client.gets(Signal::KILL);
    server.gets(Signal::TERM);
}

#[test]
fn what_is_not_tls_gets_an_alert_and_its_end() {
    let (server, addr, _) = start();
    let mut client = connect(addr);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    client.read_to_end(&mut reply).unwrap();
    // The reply is a TLS alert with two bytes, of the level fatal.
    assert_eq!(reply[..1], [0x15]);
    assert_eq!(reply[5], 2);
    server.stderr.wait_for("reason=error");
    server.gets(Signal::TERM);
}
