//! The service `metrics`: what it counts, and how it answers every kind of HTTP client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Daemon, available, connect, eventually, exchange, noise, ping, read_to_end};

/// Starts a daemon with metrics, and returns the address of the metrics.
pub(crate) fn with_metrics(args: &[&str]) -> (Daemon, SocketAddr) {
    let daemon = Daemon::start(&[&["--service=metrics=127.0.0.1:0"], args].concat());
    let addr = *daemon.addrs.last().unwrap();
    (daemon, addr)
}

/// Sends a request unchanged, and returns the whole response.
fn request(addr: SocketAddr, request: &str) -> String {
    let mut client = connect(addr);
    client.write_all(request.as_bytes()).unwrap();
    response(&client)
}

fn response(client: &TcpStream) -> String {
    String::from_utf8(read_to_end(client).unwrap()).unwrap()
}

/// Returns the metrics in Prometheus' own text format.
pub(crate) fn scrape(addr: SocketAddr) -> String {
    let response = request(addr, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    body.to_owned()
}

/// Returns the value of a metric by its name and labels, without a fraction.
fn value(metrics: &str, name: &str) -> i64 {
    let value = metrics.lines().find_map(|line| {
        let (other, value) = line.rsplit_once(' ')?;
        (other == name).then_some(value)
    });
    let value = value.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    value.split('.').next().unwrap().parse().unwrap()
}

#[test]
fn they_count_what_clients_do() {
    let (daemon, metrics) = with_metrics(&["--service=discard=127.0.0.1:0"]);
    let discard = daemon.addrs[1];
    let live = connect(daemon.addr);
    ping(&live, &noise(1, 1000));
    assert_eq!(exchange(discard, &noise(2, 5000)), b"");
    let reset = connect(daemon.addr);
    ping(&reset, b"x");
    socket2::SockRef::from(&reset)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(reset);
    let is = |name: &str, expected: i64| {
        eventually(&format!("{name} = {expected}"), || {
            value(&scrape(metrics), name) == expected
        });
    };
    is(
        "echod_connections_closed_total{service=\"echo\",reason=\"reset\"}",
        1,
    );
    is(
        "echod_connections_closed_total{service=\"discard\",reason=\"eof\"}",
        1,
    );
    is("echod_connections_accepted_total{service=\"echo\"}", 2);
    is("echod_connections{service=\"echo\",state=\"reactor\"}", 1);
    is(
        "echod_connections{service=\"metrics\",state=\"handler\"}",
        1,
    );
    is("echod_received_bytes_total{service=\"echo\"}", 1001);
    is("echod_sent_bytes_total{service=\"echo\"}", 1001);
    is("echod_received_bytes_total{service=\"discard\"}", 5000);
    is("echod_sent_bytes_total{service=\"discard\"}", 0);
    is("echod_reactors{service=\"echo\"}", 1);
    is("echod_max_connections{service=\"echo\"}", 10000);
    is("echod_max_connections{service=\"metrics\"}", 64);
    is("echod_log_lines_lost_total", 0);
    let text = scrape(metrics);
    assert!(!text.contains("per_source{"), "there is no such limit");
    let build = format!(
        "echod_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(&text, &build), 1);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let age = now.cast_signed() - value(&text, "process_start_time_seconds");
    assert!((0..600).contains(&age), "{age}");
    drop(live);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn what_is_rejected_is_counted_by_its_cause() {
    let (daemon, metrics) = with_metrics(&[
        "--max-connections=2",
        "--max-per-source=1",
        "--at-limit=reject",
    ]);
    let live = connect(daemon.addr);
    ping(&live, b"x");
    assert_eq!(read_to_end(&connect(daemon.addr)).unwrap(), b"");
    let text = scrape(metrics);
    let rejected = |cause| {
        let name =
            format!("echod_connections_rejected_total{{service=\"echo\",cause=\"{cause}\"}}");
        value(&text, &name)
    };
    assert_eq!(rejected("max_per_source"), 1);
    assert_eq!(rejected("max_connections"), 0);
    let limit = "echod_max_connections_per_source{service=\"echo\"}";
    assert_eq!(value(&text, limit), 1);
}

#[test]
fn curl_gets_the_format_that_it_asks_for() {
    if !available(&["curl"]) {
        return;
    }
    let (_daemon, addr) = with_metrics(&[]);
    let curl = |args: &[&str], path: &str| {
        let output = Command::new("curl")
            .args(["-sS", "-m", "30", "-w", "\n%{http_code} %{content_type}"])
            .args(args)
            .arg(format!("http://{addr}{path}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = String::from_utf8(output.stdout).unwrap();
        let (body, what) = output.rsplit_once('\n').unwrap();
        (body.to_owned(), what.to_owned())
    };
    let prometheus = "200 text/plain; version=0.0.4; charset=utf-8";
    let open_metrics = "200 application/openmetrics-text; version=1.0.0; charset=utf-8";
    let accepts_open = ["-H", "Accept: application/openmetrics-text; version=1.0.0"];
    for (args, format) in [
        (&[][..], prometheus),
        (&["--http1.0"], prometheus),
        (&["-H", "Accept: text/plain"], prometheus),
        (&accepts_open, open_metrics),
        // A response to HEAD has no body. curl would wait for a body if its announced length did not match.
        (&["--head"], prometheus),
    ] {
        let (body, what) = curl(args, "/metrics?collect=all");
        assert_eq!(what, format, "{args:?}");
        assert_eq!(body.ends_with("# EOF\n"), format == open_metrics);
        assert_eq!(
            body.contains("# TYPE"),
            args != ["--head"],
            "{args:?}: {body}"
        );
    }
    let (body, what) = curl(&[], "/");
    assert!(
        body.contains("/metrics") && what.starts_with("200 "),
        "{body}"
    );
    assert!(curl(&[], "/other").1.starts_with("404 "));
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let (body, what) = curl(&["-i", "-X", method, "-d", "x=1"], "/metrics");
        assert!(what.starts_with("405 "), "{method}: {what}");
        assert!(body.contains("\r\nAllow: GET, HEAD\r\n"), "{body}");
    }
}

#[test]
fn a_malformed_request_gets_an_answer_that_says_what_is_wrong() {
    let (daemon, addr) = with_metrics(&[]);
    let endless = format!("GET /metrics HTTP/1.1\r\nHost: {}", "x".repeat(20_000));
    for (bytes, status) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", "400"),
        ("SSH-2-OpenSSH_9.2\r\n", "400"),
        ("PRI * HTTP/2\r\n\r\nSM\r\n\r\n", "505"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
            "405",
        ),
        (&endless, "431"),
        (
            &format!("GET {} HTTP/1.1\r\n\r\n", "/a".repeat(10_000)),
            "431",
        ),
    ] {
        let response = request(addr, bytes);
        let start: String = bytes.chars().take(50).collect();
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{start}: {response}"
        );
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
    }
    // Half a request gets an error. A connection without a request gets no response.
    let half = exchange(addr, b"GET /metrics HTTP/1.1\r\nHost:");
    assert!(half.starts_with(b"HTTP/1.1 400 "));
    assert_eq!(exchange(addr, b""), b"");
    assert!(scrape(addr).contains("echod_"));
    let output = daemon.stop();
    assert!(!output.log.contains("WARN"), "{}", output.log);
}

#[test]
fn a_client_that_never_ends_its_header_is_cut_off() {
    let (_daemon, addr) = with_metrics(&[]);
    let mut client = connect(addr);
    client.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let start = Instant::now();
    // After the response, the server discards input for a while, and then resets the connection.
    while client.write_all(b"X-Header: x\r\n").is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_request_in_pieces_is_one_and_a_second_one_is_not_answered() {
    let (_daemon, addr) = with_metrics(&[]);
    let bytes = "GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = connect(addr);
    client.set_nodelay(true).unwrap();
    for byte in bytes.as_bytes() {
        client.write_all(&[*byte]).unwrap();
    }
    assert!(response(&client).starts_with("HTTP/1.1 200 OK\r\n"));
    let two = request(addr, &bytes.repeat(2));
    assert_eq!(two.matches("HTTP/1.1 200").count(), 1);
}

#[test]
fn a_byte_a_second_is_cut_off_at_5_s() {
    let (daemon, addr) = with_metrics(&[]);
    // The server counts from the moment at which it accepts the client, which is after this one.
    let start = Instant::now();
    let mut client = connect(addr);
    client
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut received = [0; 12];
    let bytes = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let cut = bytes.iter().any(|byte| {
        client.write_all(&[*byte]).unwrap();
        client.read_exact(&mut received).is_ok()
    });
    assert!(cut);
    assert_eq!(&received, b"HTTP/1.1 408");
    let took = start.elapsed();
    assert!((5..9).contains(&took.as_secs()), "{took:?}");
    client.shutdown(Shutdown::Write).unwrap();
    daemon.wait_for_log(" reason=");
    let output = daemon.stop();
    assert!(output.log.contains("reason=deadline"), "{}", output.log);
}

#[test]
fn silent_clients_delay_a_scrape_for_5_s_and_the_echo_not_at_all() {
    let (daemon, addr) = with_metrics(&[]);
    let silent: Vec<_> = (0..80).map(|_| connect(addr)).collect();
    assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
    let text = scrape(addr);
    assert!(
        value(
            &text,
            "echod_connections_accepted_total{service=\"metrics\"}"
        ) > 64
    );
    assert!(value(&text, "echod_threads{service=\"metrics\"}") <= 65);
    drop(silent);
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn ten_thousand_scrapes_leave_nothing_behind() {
    const SCRAPES: usize = 10_000;
    let (daemon, addr) = with_metrics(&["-q"]);
    let scrape_many = |count: usize| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..count / 4).for_each(|_| drop(scrape(addr))));
            }
        });
    };
    scrape_many(SCRAPES / 10);
    let settled = || {
        let mut text = scrape(addr);
        eventually("the end of the others", || {
            text = scrape(addr);
            let live = ["handler", "reactor", "closing"].map(|state| {
                let name = format!("echod_connections{{service=\"metrics\",state=\"{state}\"}}");
                value(&text, &name)
            });
            live == [1, 0, 0]
        });
        text
    };
    let before = settled();
    scrape_many(SCRAPES);
    let after = settled();
    let grown = |name| value(&after, name) - value(&before, name);
    let accepted = "echod_connections_accepted_total{service=\"metrics\"}";
    assert!(grown(accepted) >= 10_000);
    assert!(
        grown("process_open_fds") <= 0,
        "{}",
        grown("process_open_fds")
    );
    let resident = grown("process_resident_memory_bytes");
    assert!(resident < 1024 * 1024, "{resident} bytes");
    assert_eq!(daemon.stop().code, Some(0));
}
