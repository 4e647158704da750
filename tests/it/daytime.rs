//! The client of the daytime service: what it prints for exact, unusual and wrong servers.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use socketserver::{Connection, DaytimeHandler, TcpServer, from_fn};

use crate::support::{TestServer, Xinetd, available, example, reserve_addr};

/// New York's time zone, in the notation of POSIX.
const ZONE: &str = "EST5EDT,M3.2.0,M11.1.0";

/// Asks `server`, in a time zone. Returns the exit code, and what was printed.
fn ask(server: &str, zone: &str) -> (Option<i32>, String, String) {
    let output = example("daytime")
        .arg(server)
        .env("TZ", zone)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn server(
    handle: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
) -> TestServer {
    TestServer::start(from_fn(handle))
}

/// Returns what the client prints for this answer. The client must succeed.
fn told(answer: &'static [u8]) -> String {
    let server = server(|conn| conn.write_all(answer));
    let (code, stdout, stderr) = ask(&server.addr.to_string(), ZONE);
    assert_eq!((code, &*stderr), (Some(0), ""));
    stdout
}

#[test]
fn the_time_is_told_in_the_users_zone_with_what_else_the_server_says() {
    assert_eq!(
        told(b"\n53604 05-08-22 02:57:53 50 0 0 725.6 UTC(NIST) * \n"),
        "Sunday, August 21, 2005, 22:57:53 EDT\n\
         The clock there is healthy.\n\
         It is daylight saving time there.\n"
    );
    assert_eq!(
        told(b"\n54169 07-03-10 02:43:18 52 0 0 594.5 UTC(NIST) #\n"),
        "Friday, March 9, 2007, 21:43:18 EST\n\
         The clock there is healthy.\n\
         Daylight saving time changes there on day 2; today is day 1.\n"
    );
    assert_eq!(
        told(b"\n57753 16-12-31 23:59:60 00 1 3   0.0 UTC(NIST) * \n"),
        "Saturday, December 31, 2016, 18:59:59 EST\n\
         Don't trust it: the clock there is not healthy (3).\n\
         The last minute of this month has 61 seconds.\n"
    );
}

/// Checks that the printed day and time, in UTC, are now.
fn is_now(told: &str, format: &str) {
    let time = DateTime::strptime(format, told).unwrap();
    let passed = Timestamp::now().duration_since(TimeZone::UTC.to_timestamp(time).unwrap());
    assert!(passed.as_secs().abs() < 60, "{told}");
}

#[test]
fn this_projects_own_server_is_understood_over_ipv6_too() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let server = TestServer::serve(TcpServer::bind(addr).unwrap(), DaytimeHandler::new);
        let (code, stdout, stderr) = ask(&server.addr.to_string(), "UTC");
        assert_eq!((code, &*stderr), (Some(0), ""));
        let (time, rest) = stdout.split_once('\n').unwrap();
        is_now(time, "%A, %B %d, %Y, %H:%M:%S UTC");
        assert_eq!(rest, "The clock there is healthy.\n");
    }
}

#[test]
fn xinetds_daytime_is_printed_as_received() {
    if !available(&["xinetd"]) {
        return;
    }
    let xinetd = Xinetd::start("daytime");
    let (code, stdout, stderr) = ask(&xinetd.addr.to_string(), ZONE);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let (time, rest) = stdout.split_once('\n').unwrap();
    is_now(time, "%d %b %Y %H:%M:%S UTC");
    assert!(
        rest.starts_with(
            "(printed as received, because it is not in NIST's format: Julian date \""
        )
    );
}

#[test]
fn another_language_is_printed_as_received() {
    let stdout = told("Dienstag, 3. März, 10 Uhr 'früh'\r\n".as_bytes());
    assert!(stdout.starts_with("Dienstag, 3. März, 10 Uhr 'früh'\n(printed as received, "));
}

#[test]
fn control_characters_are_escaped() {
    let stdout = told(b"\x1b[2Jtea time\xff\0\r\n");
    let (answer, rest) = stdout.split_once('\n').unwrap();
    assert_eq!(answer, r"\x1b[2Jtea time\xff\x00");
    assert!(
        rest.starts_with(
            "(printed as received, because it is not in NIST's format: Julian date \""
        )
    );
    assert!(!rest.contains('\x1b'), "{rest:?}");
}

/// Asks a server whose answer is not a time, and checks the error.
fn fails(server: &str, cause: &str) {
    let (code, stdout, stderr) = ask(server, ZONE);
    assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
    assert_eq!(stderr, format!("{server}: {cause}\n"));
}

#[test]
fn an_empty_answer_and_one_without_end_are_named() {
    let empty = server(|_| Ok(()));
    fails(
        &empty.addr.to_string(),
        "the server closed without an answer",
    );
    let megabyte = server(|conn| conn.write_all(&vec![b'7'; 1 << 20]));
    fails(
        &megabyte.addr.to_string(),
        "the answer is too long for a date and time",
    );
}

#[test]
fn the_client_gives_up_on_a_server_without_an_answer_even_if_it_drips() {
    let silent = server(|conn| conn.read(&mut [0]).map(drop));
    let dripping = server(|conn| {
        loop {
            conn.write_all(b"5")?;
            // Send often enough that no single read times out.
            thread::park_timeout(Duration::from_millis(100));
        }
    });
    thread::scope(|scope| {
        for server in [&silent, &dripping] {
            scope.spawn(|| fails(&server.addr.to_string(), "no answer within 5s"));
        }
    });
}

#[test]
fn a_missing_server_is_named() {
    let (_reserved, addr) = reserve_addr();
    fails(
        &addr.to_string(),
        "no program listens there; is the server running?",
    );
    for wrong in ["[::1]", "localhost:", "localhost:65536", "::1:port"] {
        fails(wrong, "write the address as HOST, HOST:PORT or [IPV6]:PORT");
    }
    for name in ["no-such-host.invalid", "no-such-host.invalid:13"] {
        let (code, stdout, stderr) = ask(name, ZONE);
        assert_eq!((code, &*stdout), (Some(1), ""));
        assert!(
            stderr.starts_with(&format!("{name}: failed to lookup address")),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
    let usage = example("daytime").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert_eq!(usage.stderr, b"usage: daytime HOST[:PORT]\n");
}
