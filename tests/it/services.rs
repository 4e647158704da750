//! The small services beside the echo: they are exact and bounded, and other programs understand them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use socketserver::{
    ChargenHandler, Daytime, DaytimeFormat, DaytimeHandler, DiscardHandler, TimeHandler,
};

use crate::support::{
    Daemon, TestServer, Xinetd, available, connect, eventually, exchange, noise, read_to_end,
};

/// The most time between two readings of the same clock.
const CLOSE: Duration = Duration::from_secs(60);

fn is_now(time: SystemTime) -> bool {
    match time.elapsed() {
        Ok(behind) => behind < CLOSE,
        Err(ahead) => ahead.duration() < CLOSE,
    }
}

/// Parses a line in one of the two formats of daytime.
fn read_form(format: &str, line: &[u8]) -> SystemTime {
    let time = DateTime::strptime(format, line).unwrap();
    TimeZone::UTC
        .to_timestamp(time)
        .unwrap()
        .try_into()
        .unwrap()
}

/// Parses the answer of a time server, for the era that began in 1900.
fn read_time(bytes: &[u8]) -> SystemTime {
    let seconds = u32::from_be_bytes(bytes.try_into().unwrap());
    let since_1970 = i64::from(seconds) - 2_208_988_800;
    Timestamp::from_second(since_1970)
        .unwrap()
        .try_into()
        .unwrap()
}

/// Returns the first `len` bytes of the pattern in RFC 864.
fn characters(len: usize) -> Vec<u8> {
    let printing: Vec<u8> = (b' '..=b'~').collect();
    let line = |first: usize| {
        let line = printing.iter().cycle().skip(first).take(72);
        line.chain(b"\r\n").copied()
    };
    let period: Vec<u8> = (0..95).flat_map(line).collect();
    let mut characters = period.repeat(len / period.len() + 1);
    characters.truncate(len);
    characters
}

const LONG: &str = "%A, %B %d, %Y %H:%M:%S-UTC\r\n";
const SHORT: &str = "%d %b %y %H:%M:%S UTC\r\n";

#[test]
fn one_daemon_answers_for_all_services_and_counts_them_apart() {
    let daemon = Daemon::start(&[
        "--service=daytime=127.0.0.1:0,daytime-long=127.0.0.1:0",
        "--service=daytime-short=127.0.0.1:0",
        "--service=time=[::1]:0",
        "--service=discard=127.0.0.1:0,chargen=127.0.0.1:0",
    ]);
    let [echo, nist, long, short, time, discard, chargen] = daemon.addrs[..] else {
        panic!("not seven: {:?}", daemon.addrs);
    };
    assert_eq!(exchange(echo, b"here"), b"here");

    let line = exchange(nist, b"");
    assert_eq!(line.len(), 51);
    let daytime: Daytime = std::str::from_utf8(&line).unwrap().parse().unwrap();
    assert!(is_now(daytime.time()), "{daytime}");
    assert_eq!(daytime.label(), "UTC(HOST)");
    assert!(is_now(read_form(LONG, &exchange(long, b""))));
    assert!(is_now(read_form(SHORT, &exchange(short, b""))));
    assert!(is_now(read_time(&exchange(time, b""))));
    assert_eq!(exchange(discard, &noise(5, 1 << 20)), b"");
    let mut start = vec![0; 100_000];
    connect(chargen).read_exact(&mut start).unwrap();
    assert!(start == characters(start.len()));

    daemon.wait_for_line(&["service=chargen id=1 ", " reason="]);
    let output = daemon.stop();
    assert_eq!(output.code, Some(0), "{}", output.log);
    for totals in [
        "service=echo stopped: connections=1 rejected=0 bytes_in=4 bytes_out=4 aborted=0",
        "service=daytime stopped: connections=1 rejected=0 bytes_in=0 bytes_out=51 aborted=0",
        "service=daytime-long stopped: connections=1 rejected=0 bytes_in=0 ",
        "service=daytime-short stopped: connections=1 rejected=0 bytes_in=0 bytes_out=24 aborted=0",
        "service=time stopped: connections=1 rejected=0 bytes_in=0 bytes_out=4 aborted=0",
        "service=discard stopped: connections=1 rejected=0 bytes_in=1048576 bytes_out=0 aborted=0",
        "service=chargen stopped: connections=1 rejected=0 bytes_in=0 ",
    ] {
        assert!(output.log.contains(totals), "{totals}: {}", output.log);
    }
}

#[test]
fn services_and_addresses_come_from_the_variable_too_and_the_echo_may_be_one() {
    let mut command = Daemon::command();
    command.env(
        "ECHOD_SERVICE",
        "time=127.0.0.1:0,echo=127.0.0.2:0,time=127.0.0.2:0",
    );
    let daemon = Daemon::spawn(command.args(["-v", "--listen", "127.0.0.1:0"]));
    let [first, second, time, other] = daemon.addrs[..] else {
        panic!("not four: {:?}", daemon.addrs);
    };
    assert_eq!(exchange(first, b"here"), b"here");
    assert_eq!(exchange(second, b"there"), b"there");
    assert!(is_now(read_time(&exchange(time, b""))));
    assert!(is_now(read_time(&exchange(other, b""))));
    let log = daemon.stop().log;
    for totals in ["service=echo", "service=time"] {
        let totals = format!("{totals} stopped: connections=2 ");
        assert!(log.contains(&totals), "{totals}: {log}");
    }
}

#[test]
fn one_service_at_its_limit_leaves_the_others_room() {
    let daemon = Daemon::start(&["--service=discard=127.0.0.1:0", "--max-connections=1"]);
    let _inside = connect(daemon.addrs[1]);
    let _waits = connect(daemon.addrs[1]);
    daemon.wait_for_log("service=discard limit of 1 connections reached");
    assert_eq!(exchange(daemon.addr, b"here"), b"here");
}

#[test]
fn an_unknown_service_is_bad_usage() {
    for (value, cause) in [
        ("daytime", "expected NAME=ADDR"),
        ("daytime=1313", "expected HOST:PORT"),
        (
            "gopher=:1717",
            "unknown service \"gopher\"; known services: echo, daytime, ",
        ),
        (
            "time=:3737,discard=127.0.0.1:3737",
            "time at :3737 and discard at 127.0.0.1:3737",
        ),
    ] {
        let Output { status, stderr, .. } = Daemon::command()
            .args(["--listen", "127.0.0.1:0"])
            .arg(format!("--service={value}"))
            .output()
            .unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(2), "{value}: {stderr}");
        assert!(stderr.contains(cause), "{value}: {stderr}");
    }
}

#[test]
fn a_daytime_handler_has_the_form_that_was_chosen() {
    let handler = || DaytimeHandler::new().format(DaytimeFormat::Long);
    let server = TestServer::start(handler);
    assert!(is_now(read_form(LONG, &exchange(server.addr, b"ignored"))));
}

/// At a stop, the reader sees a prefix of the pattern, and then end of file.
#[test]
fn a_stop_ends_a_chargen_that_is_read_without_a_loss() {
    let server = TestServer::start(ChargenHandler::new);
    let client = connect(server.addr);
    (&client).read_exact(&mut vec![0; 1_000_000]).unwrap();
    server.handle.shutdown();
    let rest = read_to_end(&client).unwrap();
    let whole = characters(1_000_000 + rest.len());
    assert!(rest == whole[1_000_000..]);
    drop(client);
    let totals = server.join();
    assert_eq!(totals.bytes_out(), whole.len() as u64);
    assert_eq!(totals.aborted(), 0);
}

#[test]
fn a_chargen_that_is_not_read_ends_at_the_write_timeout() {
    let daemon = Daemon::start(&["--service=chargen=127.0.0.1:0", "--write-timeout=200ms"]);
    let client = connect(daemon.addrs[1]);
    daemon.wait_for_log("reason=stalled");
    drop(client);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_chargen_ends_with_its_lifetime_however_fast_it_is_read() {
    let daemon = Daemon::start(&["--service=chargen=127.0.0.1:0", "--max-lifetime=200ms"]);
    let received = read_to_end(&connect(daemon.addrs[1])).unwrap();
    assert!(received == characters(received.len()));
    daemon.wait_for_log("reason=lifetime");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_chargen_goes_on_after_a_half_close_and_ends_when_the_client_goes() {
    let server = TestServer::start(ChargenHandler::new);
    let mut client = connect(server.addr);
    client.write_all(b"thrown away").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    // This is more than was in flight at the half-close.
    let mut received = vec![0; 20 << 20];
    client.read_exact(&mut received).unwrap();
    assert!(received == characters(received.len()));
    drop(client);
    eventually("the end of the connection", || {
        server.handle.connection_count() == 0
    });
}

#[test]
fn openbsd_netcat_reads_daytime_time_and_chargen() {
    if !available(&["nc.openbsd"]) {
        return;
    }
    let daytime = TestServer::start(DaytimeHandler::new);
    let time = TestServer::start(TimeHandler::new);
    let discard = TestServer::start(DiscardHandler::new);
    let chargen = TestServer::start(ChargenHandler::new);
    let netcat = |addr: SocketAddr, script: &str| {
        let output = Command::new("sh")
            .args(["-c", script])
            .args([addr.ip().to_string(), addr.port().to_string()])
            .output()
            .unwrap();
        output.stdout
    };
    let line = netcat(daytime.addr, "nc.openbsd -w 30 $0 $1 </dev/null");
    let read: Daytime = String::from_utf8(line).unwrap().parse().unwrap();
    assert!(is_now(read.time()), "{read}");
    let bytes = netcat(time.addr, "nc.openbsd -w 30 $0 $1 </dev/null");
    assert!(is_now(read_time(&bytes)));
    let silence = netcat(discard.addr, "seq 1 100000 | nc.openbsd -N -w 30 $0 $1");
    assert_eq!(silence, b"");
    assert_eq!(discard.stop().bytes_in(), 588_895);
    let lines = netcat(
        chargen.addr,
        "nc.openbsd -w 30 $0 $1 </dev/null | head -n 500",
    );
    assert_eq!(lines.len(), 500 * 74);
    assert!(lines == characters(lines.len()));
}

const PYTHON: &str = r#"
import calendar, re, socket, sys, time

def connect(port):
    return socket.create_connection(("127.0.0.1", int(port)), timeout=30)

def read(port):
    with connect(port) as s, s.makefile("rb") as f:
        return f.read()

daytime, seconds, discard, chargen = sys.argv[1:]
mjd, day, clock = re.fullmatch(
    rb"\n(\d{5}) (\d\d-\d\d-\d\d) (\d\d:\d\d:\d\d) \d\d [012] \d [ \d]{3}\.\d \S{9} [*#] \n",
    read(daytime)).groups()
now = time.time()
assert abs(int(mjd) - 40587 - now // 86400) <= 1
told = time.strptime((day + clock).decode(), "%y-%m-%d%H:%M:%S")
assert abs(calendar.timegm(told) - now) < 60

assert abs(int.from_bytes(read(seconds), "big") - 2208988800 - now) < 60

with connect(discard) as s:
    s.sendall(b"x" * 1_000_000)
    s.shutdown(socket.SHUT_WR)
    assert s.recv(1) == b""

printing = "".join(map(chr, range(32, 127)))
with connect(chargen) as s, s.makefile("r", newline="\r\n") as f:
    for first in range(300):
        first %= 95
        assert f.readline() == (printing * 2)[first:first + 72] + "\r\n"
"#;

#[test]
fn python_reads_all_of_them() {
    if !available(&["python3"]) {
        return;
    }
    let daemon = Daemon::start(&[
        "--service=daytime=127.0.0.1:0,time=127.0.0.1:0,discard=127.0.0.1:0,chargen=127.0.0.1:0",
    ]);
    let ports = daemon.addrs[1..].iter().map(|addr| addr.port().to_string());
    let output = Command::new("python3")
        .args(["-c", PYTHON])
        .args(ports)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(daemon.stop().code, Some(0));
}

/// Checks that another implementation does what these tests expect of the services.
#[test]
fn xinetds_own_services_are_read_the_same_way() {
    if !available(&["xinetd"]) {
        return;
    }
    let time = Xinetd::start("time");
    assert!(is_now(read_time(&exchange(time.addr, b""))));
    let discard = Xinetd::start("discard");
    assert_eq!(exchange(discard.addr, &noise(6, 1 << 20)), b"");
    // xinetd's pattern starts with another character, and has no blank.
    let chargen = Xinetd::start("chargen");
    let mut lines = vec![0; 10 * 74];
    connect(chargen.addr).read_exact(&mut lines).unwrap();
    let printing: Vec<u8> = (b'!'..=b'~').collect();
    for (first, line) in lines.chunks(74).enumerate() {
        assert_eq!(line[..72], printing[first..first + 72]);
        assert_eq!(&line[72..], b"\r\n");
    }
}
