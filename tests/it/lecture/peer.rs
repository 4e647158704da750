//! Peer to peer: chats with peers that join, leave, crash, or are hostile.

use std::io::Write;
use std::net::TcpListener;
use std::thread;

use rustix::process::Signal;

use super::run;
use crate::support::{Daemon, Session, connect, example, private_addr, read_to_end};

/// A running peer: its session, its name, and its address.
struct Peer {
    session: Session,
    name: &'static str,
    addr: String,
}

impl Peer {
    fn start(name: &'static str, addr: &str, others: &[&str]) -> Self {
        let session = Session::start(example("peer").args([name, addr]).args(others));
        session.stdout.wait_for("* listening at ");
        session.stdout.wait_for("\n");
        let shown = session.stdout.text();
        let addr = shown.lines().next().unwrap();
        Self {
            addr: addr["* listening at ".len()..].to_owned(),
            session,
            name,
        }
    }

    fn join(name: &'static str, others: &[&str]) -> Self {
        Self::start(name, "127.0.0.1:0", others)
    }

    fn says(&mut self, text: &str) {
        self.session.types(format!("{text}\n"));
    }

    fn hears(&self, text: &str) {
        self.session.stdout.wait_for(&format!("{text}\n"));
    }

    fn meets(&self, other: &Self) {
        self.hears(&format!("* {} is here", other.name));
        other.hears(&format!("* {} is here", self.name));
    }

    /// Ends the peer, and returns its output.
    fn leaves(self) -> String {
        let ended = self.session.leaves();
        assert_eq!(ended.code, Some(0));
        String::from_utf8(ended.stdout).unwrap()
    }
}

#[test]
fn either_of_two_peers_speaks_first_and_either_leaves() {
    for first in 0..2 {
        let ann = Peer::join("ann", &[]);
        let bob = Peer::join("bob", &[&ann.addr]);
        ann.meets(&bob);
        let mut pair = [ann, bob];
        pair.rotate_left(first);
        let [mut one, mut other] = pair;
        one.says("hello");
        other.hears(&format!("{}: hello", one.name));
        other.says("hello yourself");
        one.hears(&format!("{}: hello yourself", other.name));
        // A last line, with the end right behind it.
        one.says("bye");
        let gone = one.name;
        assert_eq!(one.leaves().matches("hello").count(), 1);
        other.hears(&format!("{gone}: bye\n* {gone} is gone"));
        other.leaves();
    }
}

#[test]
fn three_peers_chat_one_leaves_and_newcomers_find_all() {
    let mut ann = Peer::join("ann", &[]);
    let bob = Peer::join("bob", &[&ann.addr]);
    ann.meets(&bob);
    // cem gets one address, and must meet both.
    let mut cem = Peer::join("cem", &[&bob.addr]);
    cem.meets(&bob);
    cem.meets(&ann);
    cem.says("hello all");
    ann.hears("cem: hello all");
    bob.hears("cem: hello all");
    // bob, by whom ann and cem met, leaves.
    bob.leaves();
    ann.hears("* bob is gone");
    cem.hears("* bob is gone");
    ann.says("are you there?");
    cem.hears("ann: are you there?");
    // dan listens at every address of the machine.
    let mut dan = Peer::start("dan", "0.0.0.0:0", &[&cem.addr]);
    dan.meets(&ann);
    dan.meets(&cem);
    dan.says("hello from dan");
    ann.hears("dan: hello from dan");
    cem.hears("dan: hello from dan");
    // cem is ended by a signal, and eve crashes. (Not by SIGINT, because some shells start background jobs
    // with SIGINT ignored.)
    cem.session.gets(Signal::TERM);
    ann.hears("* cem is gone");
    dan.hears("* cem is gone");
    let eve = Peer::join("eve", &[&dan.addr]);
    eve.meets(&ann);
    eve.session.gets(Signal::KILL);
    ann.hears("* eve is gone");
    dan.says("only we two");
    ann.hears("dan: only we two");
    assert_eq!(ann.leaves().matches("dan: ").count(), 2);
    dan.leaves();
}

#[test]
fn peers_that_join_and_speak_at_once_hear_every_line_once_and_in_order() {
    const LINES: usize = 50;
    let ann = Peer::join("ann", &[]);
    let mut peers = vec![ann];
    for name in ["bob", "cem", "dan", "eve"] {
        // Each joins by two peers at once: the first one, and the newest one.
        let known = [&*peers[0].addr, &*peers[peers.len() - 1].addr];
        let peer = Peer::join(name, &known);
        peers.push(peer);
    }
    for (i, one) in peers.iter().enumerate() {
        peers[..i].iter().for_each(|other| one.meets(other));
    }
    thread::scope(|scope| {
        for peer in &mut peers {
            scope.spawn(|| (0..LINES).for_each(|n| peer.says(&format!("line {n}."))));
        }
    });
    let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    for peer in &peers {
        for name in names.iter().filter(|name| **name != peer.name) {
            peer.hears(&format!("{name}: line {}.", LINES - 1));
        }
    }
    for peer in peers {
        let me = peer.name;
        let heard = peer.leaves();
        for name in names.iter().filter(|name| **name != me) {
            let prefix = format!("{name}: line ");
            let from: Vec<_> = heard
                .lines()
                .filter(|line| line.starts_with(&prefix))
                .collect();
            let said: Vec<_> = (0..LINES).map(|n| format!("{prefix}{n}.")).collect();
            assert_eq!(from, said, "{me} heard this of {name}");
        }
    }
}

#[test]
fn two_peers_that_connect_to_each_other_hear_every_line_once() {
    for _ in 0..5 {
        let addrs = [7001, 7002].map(|port| private_addr(port).to_string());
        let [mut ann, mut bob] = thread::scope(|scope| {
            let ann = scope.spawn(|| Peer::start("ann", &addrs[0], &[&addrs[1]]));
            let bob = Peer::start("bob", &addrs[1], &[&addrs[0]]);
            [ann.join().unwrap(), bob]
        });
        ann.meets(&bob);
        ann.says("one.");
        ann.says("two.");
        bob.hears("ann: two.");
        bob.says("three.");
        ann.hears("bob: three.");
        let heard = bob.leaves();
        assert_eq!(heard.matches("ann: ").count(), 2, "{heard}");
        ann.hears("* bob is gone");
        let heard = ann.leaves();
        assert_eq!(heard.matches("bob: ").count(), 1, "{heard}");
    }
}

#[test]
fn a_hostile_peer_harms_no_other_peer() {
    let mut ann = Peer::join("ann", &[]);
    let mut bob = Peer::join("bob", &[&ann.addr]);
    ann.meets(&bob);
    let addr = ann.addr.parse().unwrap();

    // A client that sends nothing, a client of another protocol, a peer without a listener, and a second bob.
    let silent = connect(addr);
    for hello in [
        "GET / HTTP/1.1\r\n\r\n",
        "nobody 127.0.0.1:1\n",
        &format!("bob {}\n", bob.addr),
    ] {
        let stranger = connect(addr);
        (&stranger).write_all(hello.as_bytes()).unwrap();
        read_to_end(&stranger).unwrap();
    }

    // A peer that sends control characters, and a line without end.
    let ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut mallory = connect(addr);
    let at = ear.local_addr().unwrap();
    writeln!(mallory, "m\x1b[2J {at},no-address").unwrap();
    ann.hears("* m\\x1b[2J is here");
    mallory
        .write_all(b"\x1b]0;owned\x07 \xc2\x9b31m\xff\r\n")
        .unwrap();
    ann.hears("m\\x1b[2J: \\x1b]0;owned\\x07 \\xc2\\x9b31m\\xff");
    mallory.write_all(&vec![b'x'; 1 << 20]).unwrap();
    // A peer that reads nothing, while more is sent to it than the kernels can hold.
    let deaf_ear = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stalled = connect(addr);
    writeln!(stalled, "stalled {}", deaf_ear.local_addr().unwrap()).unwrap();
    ann.hears("* stalled is here");

    let line = "y".repeat(1000);
    (0..16_000).for_each(|_| ann.says(&line));
    ann.says("that was all");
    bob.hears("ann: that was all");
    bob.says("I know");
    ann.hears("bob: I know");
    ann.hears("* stalled is gone");
    drop((mallory, silent));
    ann.hears("* m\\x1b[2J is gone");
    let heard = ann.leaves();
    assert!(!heard.contains(['\x1b', '\u{9b}']));
    assert!(heard.lines().all(|line| line.len() < 5_000));
    assert_eq!(bob.leaves().matches(&line).count(), 16_000);
}

#[test]
fn a_peer_says_why_it_cannot_start_or_reach_another() {
    assert_eq!(run("peer", &["ann"]).0, Some(2));
    let ann = Peer::join("ann", &[]);
    let (code, stdout, stderr) = run("peer", &["bob", &ann.addr]);
    assert_eq!((code, &*stdout), (Some(1), ""));
    let expected = format!("cannot bind {}: Address already in use", ann.addr);
    assert!(stderr.starts_with(&expected), "{stderr}");

    let [unused, myself] = [9, 7003].map(|port| private_addr(port).to_string());
    let daemon = Daemon::start(&[]);
    let echod = daemon.addr.to_string();
    let bob = Peer::start("bob", &myself, &[&unused, &myself, &echod, &ann.addr]);
    for (addr, cause) in [
        (unused, "Connection refused"),
        (myself, "this is my own address\n"),
        (echod, "no connection came back; is that a peer?\n"),
    ] {
        let line = format!("* {addr}: {cause}");
        bob.session.stderr.wait_for(&line);
    }
    ann.meets(&bob);
    bob.leaves();
    ann.leaves();
    assert_eq!(daemon.stop().code, Some(0));
}
