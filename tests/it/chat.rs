//! The example `chat`, with real clients as members.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{Session, TIMEOUT, available, connect, example};

/// A running chat. It ends when the test ends.
struct Chat {
    session: Session,
    addr: SocketAddr,
}

impl Chat {
    fn start() -> Self {
        let session = Session::start(example("chat").arg("127.0.0.1:0"));
        session.stdout.wait_for("\n");
        let shown = session.stdout.text();
        let addr = shown.trim_end().rsplit(' ').next().unwrap();
        let addr = addr.parse().unwrap();
        Self { session, addr }
    }

    /// Connects with a program, such as `nc`, and sends a name.
    fn join_with(&self, program: &str, name: &str) -> Session {
        let mut command = Command::new(program);
        command.args([self.addr.ip().to_string(), self.addr.port().to_string()]);
        let mut session = Session::start(&mut command);
        session.stdout.wait_for("* what is your name?\n");
        session.types(format!("{name}\n"));
        session.stdout.wait_for("* welcome");
        session
    }

    fn join(&self, name: &str) -> Member {
        Member::join(connect(self.addr), name)
    }

    /// Stops the chat, and returns how long that took.
    fn stop(self) -> Duration {
        let start = Instant::now();
        self.session.gets(Signal::TERM);
        start.elapsed()
    }
}

struct Member(BufReader<TcpStream>);

impl Member {
    fn join(stream: TcpStream, name: &str) -> Self {
        let mut member = Self(BufReader::new(stream));
        assert_eq!(member.hears(), "* what is your name?");
        member.says(name);
        assert!(member.hears().starts_with("* welcome"));
        member
    }

    fn says(&mut self, line: impl AsRef<[u8]>) {
        self.types([line.as_ref(), b"\n"].concat());
    }

    fn types(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Returns the next line, or an empty one at the end.
    fn hears(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    fn hears_once(&mut self, line: &str) {
        assert_eq!(self.hears(), line);
    }
}

#[test]
fn two_members_with_netcat_hear_each_other_and_the_end() {
    if !available(&["nc.openbsd", "ncat"]) {
        return;
    }
    let chat = Chat::start();
    let mut ann = chat.join_with("nc.openbsd", "ann");
    let mut bob = chat.join_with("ncat", "bob");
    ann.stdout.wait_for("* bob is here\n");
    ann.types("hello bob\n");
    bob.stdout.wait_for("ann: hello bob\n");
    bob.types("hello ann\n/who\n/quit\n");
    ann.stdout.wait_for("bob: hello ann\n");
    bob.stdout.wait_for("* here: ann bob\n* goodbye\n");
    ann.stdout.wait_for("* bob is gone\n");
    assert!(
        !ann.stdout.text().contains("ann: "),
        "a member got its own line"
    );
    chat.stop();
    ann.stdout.wait_for("* the chat ends, goodbye\n");
}

#[test]
fn lines_in_one_packet_are_all_delivered_and_half_a_line_delays_no_other_member() {
    let chat = Chat::start();
    let (mut ann, mut bob) = (chat.join("ann"), chat.join("bob"));
    ann.hears_once("* bob is here");
    ann.types("one\ntwo\n\nthr");
    bob.hears_once("ann: one");
    bob.hears_once("ann: two");
    for number in 0..3 {
        bob.says(format!("{number}"));
        ann.hears_once(&format!("bob: {number}"));
    }
    ann.types("ee\n");
    bob.hears_once("ann: three");
}

#[test]
fn lines_are_bounded_and_harmless_to_a_terminal() {
    let chat = Chat::start();
    let (mut ann, mut bob) = (chat.join("ann"), chat.join("bob"));
    ann.says(b"\x1b[2JGr\xfc\xdfe \x07\r");
    bob.hears_once(r"ann: \x1b[2JGr\xfc\xdfe \x07");
    ann.says("Grüße");
    bob.hears_once("ann: Grüße");
    ann.says("1".repeat(1500));
    bob.hears_once(&format!("ann: {}", "1".repeat(1000)));
    bob.hears_once(&format!("ann: {}", "1".repeat(500)));
}

#[test]
fn a_name_is_short_and_plain_and_belongs_to_one_member() {
    let chat = Chat::start();
    let mut ann = chat.join("ann");
    let mut guest = Member(BufReader::new(connect(chat.addr)));
    guest.hears_once("* what is your name?");
    for name in [
        "",
        "ann",
        "two words",
        "a:",
        "\x1b[2J",
        "/who",
        &"a".repeat(21),
    ] {
        guest.says(name);
        let answer = guest.hears();
        assert!(
            answer.starts_with("* choose another name"),
            "{name:?}: {answer}"
        );
    }
    guest.says("Jürgen");
    assert!(guest.hears().starts_with("* welcome"));
    ann.hears_once("* Jürgen is here");
    drop(guest);
    ann.hears_once("* Jürgen is gone");
    // The name is free again.
    chat.join("Jürgen");
}

/// Lets every speaker send a line, and receive the lines of all others before it sends more, so that no
/// speaker falls behind. Returns how many speakers have received the line that the slow member is gone.
fn round(speakers: &mut [Member], number: usize) -> usize {
    // The longest line that the chat accepts, so that buffers fill soon.
    let line = format!("{number:0>1000}");
    speakers.iter_mut().for_each(|speaker| speaker.says(&line));
    let others = speakers.len() - 1;
    let mut gone = 0;
    for speaker in speakers {
        let mut lines = 0;
        while lines < others {
            match &*speaker.hears() {
                "* slow is here" => {}
                "* slow is gone" => gone += 1,
                said => {
                    assert!(said.ends_with(&line), "{said}");
                    lines += 1;
                }
            }
        }
    }
    gone
}

#[test]
fn a_member_that_never_reads_is_dropped_while_the_others_go_on() {
    let chat = Chat::start();
    let mut speakers: Vec<_> = (0..4).map(|n| chat.join(&format!("speaker{n}"))).collect();
    for (n, speaker) in speakers.iter_mut().enumerate() {
        (n + 1..4).for_each(|later| speaker.hears_once(&format!("* speaker{later} is here")));
    }
    let slow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    slow.set_recv_buffer_size(4096).unwrap();
    slow.connect(&chat.addr.into()).unwrap();
    slow.set_read_timeout(Some(TIMEOUT)).unwrap();
    let _slow = Member::join(slow.into(), "slow");
    let mut slowest = Duration::ZERO;
    // The outbox of the slow member has room for 100 rounds, and the socket buffers for about 10.
    let dropped = (0..200).find(|&number| {
        let start = Instant::now();
        let gone = round(&mut speakers, number);
        slowest = slowest.max(start.elapsed());
        gone > 0
    });
    assert!(dropped.is_some_and(|round| round >= 100), "{dropped:?}");
    // If a write to the slow member delayed the others, a round would last as long as the write timeout.
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

#[test]
fn two_hundred_members_have_two_hundred_threads_and_all_hear_all() {
    const MEMBERS: usize = 200;
    let chat = Chat::start();
    let mut members: Vec<_> = (0..MEMBERS).map(|n| chat.join(&format!("m{n}"))).collect();
    let threads = fs::read_dir(format!("/proc/{}/task", chat.session.id())).unwrap();
    let names: Vec<_> = threads
        .map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")).unwrap())
        .collect();
    let connections = names.iter().filter(|name| *name == "connection\n").count();
    // One of the threads is the leader. Beside the threads of connections there are the main thread and the
    // thread for signals.
    assert_eq!((connections, names.len()), (MEMBERS + 1, MEMBERS + 3));
    for member in &mut members {
        member.says("hello");
    }
    for (n, member) in members.iter_mut().enumerate() {
        let mut heard: Vec<_> = (n + 1..MEMBERS + MEMBERS - 1)
            .map(|_| member.hears())
            .collect();
        let mut expected: Vec<_> = (0..MEMBERS)
            .filter(|&other| other != n)
            .map(|other| format!("m{other}: hello"))
            .chain((n + 1..MEMBERS).map(|later| format!("* m{later} is here")))
            .collect();
        heard.sort();
        expected.sort();
        assert_eq!(heard, expected, "m{n}");
    }
    let took = chat.stop();
    for member in &mut members {
        member.hears_once("* the chat ends, goodbye");
        member.hears_once("");
    }
    // The members have not closed, and the server must not wait until they do.
    assert!(took < Duration::from_secs(2), "{took:?}");
}
