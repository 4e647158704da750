//! Which sources may connect: the nftables rules on the page `systemd/access.md`, loaded into the kernel.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{Daemon, TIMEOUT, available, eventually, finish, in_own_network, must, ping};

/// The limits of the page for each source: a burst, a rate per second, and connections.
const BURST: u32 = 50;
const RATE: u32 = 20;
const CONNECTIONS: usize = 100;

/// Runs `test` in a network namespace with the rules of the page, and with a daemon at the port of the rules.
fn with_rules(test: impl FnOnce() + Send) {
    if !available(&["nft"]) {
        return;
    }
    in_own_network(|| {
        for addr in ["2001:db8:1::1", "2001:db8:1::2", "2001:db8:2::1"] {
            let add = ["address", "add", addr, "dev", "lo", "nodad"];
            must(Command::new("ip").args(add));
        }
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/access.md");
        let page = fs::read_to_string(page).unwrap();
        let (_, rules) = page.split_once("```nft\n").unwrap();
        let (rules, _) = rules.split_once("```").unwrap();
        // Load the rules twice, because loading them again must replace them.
        for _ in 0..2 {
            load(rules);
        }
        let daemon = Daemon::spawn(Daemon::command().args(["--listen", ":7"]));
        test();
        assert_eq!(daemon.stop().code, Some(0));
    });
}

fn load(rules: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = nft.stdin.take().unwrap();
    stdin.write_all(rules.as_bytes()).unwrap();
    drop(stdin);
    assert!(finish(&mut nft).success());
}

/// Connects from `source`, an address of this machine.
fn connect_from(source: &str, patience: Duration) -> io::Result<TcpStream> {
    let source: IpAddr = source.parse().unwrap();
    let server: IpAddr = match source {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let server = SocketAddr::from((server, 7));
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&server.into(), patience)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket.into())
}

fn is_served(source: &str) {
    ping(&connect_from(source, TIMEOUT).unwrap(), b"here");
}

#[test]
fn a_source_above_the_rate_is_slowed_down_and_others_are_not() {
    with_rules(|| {
        // Two addresses of one network count as one source.
        for (sources, other) in [
            (["127.0.0.2", "127.0.0.2"], "127.0.0.3"),
            (["2001:db8:1::1", "2001:db8:1::2"], "2001:db8:2::1"),
        ] {
            let start = Instant::now();
            let mut sources = sources.into_iter().cycle();
            let mut next = || connect_from(sources.next().unwrap(), Duration::from_millis(500));
            let mut count = 0;
            let error = loop {
                match next() {
                    Ok(stream) => ping(&stream, b"here"),
                    Err(error) => break error,
                }
                count += 1;
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            let most = f64::from(BURST) + f64::from(RATE) * start.elapsed().as_secs_f64();
            assert!(count >= BURST && f64::from(count) <= most + 1.0, "{count}");
            is_served(other);
            // The client's kernel sends the dropped SYN again.
            is_served(sources.next().unwrap());
        }
    });
}

#[test]
fn a_source_with_too_many_connections_is_refused_and_others_are_served() {
    with_rules(|| {
        let mut held: Vec<_> = (0..CONNECTIONS)
            .map(|_| connect_from("127.0.0.2", TIMEOUT).unwrap())
            .collect();
        held.iter().for_each(|stream| ping(stream, b"here"));
        // The source is now above the rate, so its first SYN may be dropped. The kernel sends it again.
        let error = connect_from("127.0.0.2", TIMEOUT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        is_served("127.0.0.3");
        held.pop();
        eventually("room for another one", || {
            connect_from("127.0.0.2", TIMEOUT).is_ok()
        });
    });
}
