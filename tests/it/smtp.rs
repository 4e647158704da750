//! The example `smtp`, with Python's `smtplib`, with curl, and by hand.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::SockRef;

use crate::support::{Session, available, connect, eventually, exchange, serving};

/// The largest mail that the example accepts, in bytes.
const LARGEST: usize = 1 << 20;

fn start() -> (Session, SocketAddr) {
    serving("smtp", &["127.0.0.1:0"])
}

/// Stops the server, and returns what it has printed. No handler may have failed or panicked.
fn printed(server: Session) -> String {
    server.signal(Signal::TERM);
    let ended = server.ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for bad in ["WARN", "ERROR", "reason=panic", "reason=error"] {
        assert!(!ended.stderr.contains(bad), "{}", ended.stderr);
    }
    String::from_utf8(ended.stdout).unwrap()
}

/// A client that sends commands by hand.
struct Client(BufReader<TcpStream>);

impl Client {
    fn greeted(addr: SocketAddr) -> Self {
        let mut client = Self(BufReader::new(connect(addr)));
        client.expects("220 ");
        client.gets("HELO here", "250 ");
        client
    }

    /// Returns a client that has sent DATA and may now send a mail.
    fn in_data(addr: SocketAddr) -> Self {
        let mut client = Self::greeted(addr);
        client.gets("MAIL FROM:<ann@here>", "250 ");
        client.gets("RCPT TO:<bob@there>", "250 ");
        client.gets("DATA", "354 ");
        client
    }

    fn sends(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    fn expects(&mut self, reply: &str) {
        let line = self.next();
        assert!(line.starts_with(reply) && line.ends_with("\r\n"), "{line}");
    }

    fn gets(&mut self, command: &str, reply: &str) {
        self.sends(format!("{command}\r\n"));
        self.expects(reply);
    }

    fn next(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn is_at_end(&mut self) -> bool {
        self.next().is_empty()
    }
}

/// Sends one mail unchanged. Returns what the server has printed of it.
fn deliver(mail: &[u8]) -> String {
    let (server, addr) = start();
    let mut client = Client::in_data(addr);
    client.sends([mail, b"\r\n.\r\n"].concat());
    client.expects("250 ");
    let printed = printed(server);
    let (_, mail) = printed.split_once("to <bob@there>\n").unwrap();
    mail.strip_suffix("\n\n").unwrap().to_owned()
}

#[test]
fn pythons_smtplib_delivers_mails_and_learns_of_limits() {
    if !available(&["python3"]) {
        return;
    }
    let (server, addr) = start();
    let script = format!(
        "\
import smtplib
client = smtplib.SMTP('127.0.0.1', {}, local_hostname='here', timeout=30)
client.ehlo()
assert client.esmtp_features['size'] == '{LARGEST}', client.esmtp_features
assert client.has_extn('pipelining') and client.has_extn('8bitmime')
text = 'Subject: dots\\r\\n\\r\\n.\\r\\n..\\r\\n.x\\r\\nlast\\r\\n'
assert client.sendmail('ann@here', ['bob@there', 'cem@there'], text) == {{}}
assert client.sendmail('', ['bob@there'], b'caf\\xe9 \\xc3\\xa9\\x1b[2J\\r\\n') == {{}}
for announced in [True, False]:
    if not announced:
        del client.esmtp_features['size']
    try:
        client.sendmail('ann@here', ['bob@there'], 'x' * ({LARGEST} + 1))
        assert False, 'the mail was taken'
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        assert error.smtp_code == 552, error
        assert isinstance(error, smtplib.SMTPSenderRefused) == announced
assert client.verify('bob')[0] == 252
assert client.noop()[0] == 250
assert client.quit()[0] == 221
",
        addr.port()
    );
    let ended = Session::start(Command::new("python3").args(["-c", &script])).ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(
        printed(server),
        "--- from <ann@here> to <bob@there> <cem@there>\n\
         Subject: dots\n\n.\n..\n.x\nlast\n\n\
         --- from <> to <bob@there>\n\
         caf\\xe9 é\\x1b[2J\n\n"
    );
}

#[test]
fn curl_delivers_a_mail() {
    if !available(&["curl"]) {
        return;
    }
    let (server, addr) = start();
    let url = format!("smtp://{addr}/here");
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "30", "--crlf", "-T", "-"]);
    command.args(["--mail-from", "ann@here", "--mail-rcpt", "bob@there"]);
    let mut curl = Session::start(command.arg(url));
    curl.types("Subject: hi\n\n.hello\n.\n\nend\n");
    let ended = curl.leaves();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(
        printed(server),
        "--- from <ann@here> to <bob@there>\nSubject: hi\n\n.hello\n.\n\nend\n\n"
    );
}

#[test]
fn commands_out_of_order_and_unknown_ones_are_refused_and_the_client_may_go_on() {
    let (server, addr) = start();
    let mut client = Client(BufReader::new(connect(addr)));
    client.expects("220 ");
    for (command, reply) in [
        ("MAIL FROM:<ann@here>", "503 "),
        ("HELO", "501 "),
        ("", "500 "),
        ("helo here", "250 "),
        ("RCPT TO:<bob@there>", "503 "),
        ("DATA", "503 "),
        ("MAIL FROM:", "501 "),
        ("MAIL FROM:ann", "501 "),
        ("MAIL TO:<ann@here>", "501 "),
        ("MAIL é:<ann@here>", "501 "),
        ("MAIL FROM:<ann@here> SIZE=x", "501 "),
        ("MAIL FROM:<ann@here> SIZE=1048577", "552 "),
        ("mail from:<ann@here> BODY=8BITMIME SIZE=1048576", "250 "),
        ("MAIL FROM:<bob@here>", "503 "),
        ("RCPT TO:<>", "501 "),
        ("RCPT TO:<bob@there>", "250 "),
        ("RSET", "250 "),
        ("DATA", "503 "),
        ("MAIL FROM:<>", "250 "),
        ("RCPT TO:<bob@there>", "250 "),
        ("HELO again", "250 "),
        ("DATA", "503 "),
        ("EXPN all", "500 "),
        ("NOOP whatever", "250 "),
        ("VRFY bob", "252 "),
    ] {
        client.gets(command, reply);
    }
    client.gets("MAIL FROM:<ann@here>", "250 ");
    for n in 0..100 {
        client.gets(&format!("RCPT TO:<{n}@there>"), "250 ");
    }
    client.gets("RCPT TO:<one.more@there>", "452 ");
    client.gets("QUIT", "221 ");
    assert!(client.is_at_end());
    assert_eq!(printed(server), "");
}

#[test]
fn commands_and_mails_that_arrive_at_once_are_answered_in_order() {
    let (server, addr) = start();
    let mail = "MAIL FROM:<ann@here>\r\nRCPT TO:<bob@there>\r\nDATA\r\nhello\r\n.\r\n";
    let all = format!("EHLO here\r\n{mail}RSET\r\n{mail}QUIT\r\nNOOP\r\n");
    let replies = String::from_utf8(exchange(addr, all.as_bytes())).unwrap();
    let codes: Vec<_> = replies.lines().map(|line| &line[..4]).collect();
    let of_a_mail = ["250 ", "250 ", "354 ", "250 "];
    let expected = [
        &["220 ", "250-", "250-", "250-", "250 "][..],
        &of_a_mail,
        &["250 "],
        &of_a_mail,
        &["221 "],
    ];
    assert_eq!(codes, expected.concat());
    let one = "--- from <ann@here> to <bob@there>\nhello\n\n";
    assert_eq!(printed(server), one.repeat(2));
}

#[test]
fn dots_and_lines_of_any_length_arrive_as_they_were_meant() {
    for (sent, meant) in [
        ("", ""),
        ("..", "."),
        ("...\r\n..x\r\n", "..\n.x\n"),
        (".x", "x"),
        // Only CR LF ends a line, so none of these dots ends the mail or is removed.
        ("a\n.\nb", "a\n.\nb"),
        ("a\n..\nb", "a\n..\nb"),
        ("a\n.\r\nb", "a\n.\nb"),
        ("a\r.\r\nb", "a\\r.\nb"),
        ("\r\n.\nb", "\n\nb"),
    ] {
        assert_eq!(deliver(sent.as_bytes()), meant, "{sent:?}");
    }
    // The server reads lines in parts of 1000 bytes. A part that begins with a dot need not begin a line.
    let (mut sent, mut meant) = (Vec::new(), Vec::new());
    for length in (990..1010).chain(1990..2010) {
        let line = "x".repeat(length);
        sent.extend(format!("{line}.\r\n..{line}\r\n").bytes());
        meant.extend(format!("{line}.\n.{line}\n").bytes());
    }
    sent.extend([b'.'; 5000]);
    meant.extend([b'.'; 4999]);
    assert_eq!(deliver(&sent).as_bytes(), meant);
}

#[test]
fn a_line_without_end_is_refused_and_takes_no_memory() {
    const MUCH: usize = 64 << 20;
    let (server, addr) = start();
    let mut client = Client::greeted(addr);
    client.sends([b'x'; 1000]);
    client.expects("500 ");
    assert!(client.is_at_end());

    let mut client = Client::in_data(addr);
    let part = vec![b'x'; 1 << 20];
    for _ in 0..MUCH / part.len() {
        client.sends(&part);
    }
    client.sends("\r\n.\r\n");
    client.expects("552 ");
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: usize = peak.unwrap().trim_end_matches("kB").trim().parse().unwrap();
    assert!(peak < 16 << 10, "{peak} kB");
    // The next mail is not too large, so the server accepts it.
    client.gets("MAIL FROM:<ann@here>", "250 ");
    client.gets("RCPT TO:<bob@there>", "250 ");
    client.gets("DATA", "354 ");
    client.sends("hello\r\n.\r\n");
    client.expects("250 ");
    let mail = "--- from <ann@here> to <bob@there>\nhello\n\n";
    assert_eq!(printed(server), mail);
}

#[test]
fn binary_bytes_are_rejected_as_commands_and_change_nothing() {
    let (server, addr) = start();
    let mut client = Client::greeted(addr);
    for line in [
        &b"\xff\xfe\0"[..],
        b"MAIL\xe9 FROM:<ann@here>",
        b"\0",
        b"\t \t",
    ] {
        client.sends([line, b"\r\n"].concat());
        client.expects("500 ");
    }
    // The server accepts an address in Latin-1.
    client.sends(b"MAIL FROM:<andr\xe9@here>\r\n");
    client.expects("250 ");
    client.gets("RCPT TO:<\x1b[2J>", "250 ");
    client.gets("DATA", "354 ");
    client.sends(b"\0\xff\x1b\r\n.\r\n");
    client.expects("250 ");
    let mail = "--- from <andr\u{fffd}@here> to <\\x1b[2J>\n\\x00\\xff\\x1b\n\n";
    assert_eq!(printed(server), mail);
}

#[test]
fn a_client_that_goes_away_in_the_midst_of_a_mail_has_sent_none() {
    let (server, addr) = start();
    let mut client = Client::in_data(addr);
    client.sends("half a mail\r\n.");
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert!(client.is_at_end());

    let mut client = Client::in_data(addr);
    client.sends("half a mail\r\n");
    let stream = client.0.into_inner();
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    eventually("both are gone", || {
        let log = server.stderr.text();
        log.contains("reason=eof") && log.contains("reason=reset")
    });
    assert_eq!(printed(server), "");
}

#[test]
fn a_greeting_that_drips_is_ended_at_its_deadline() {
    let (server, addr) = start();
    let start = Instant::now();
    let mut client = Client(BufReader::new(connect(addr)));
    client.expects("220 ");
    let stream = client.0.get_ref();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let reply = loop {
        // A NOOP, sent byte by byte, is not the HELO that the deadline demands.
        client.sends("N");
        let mut line = String::new();
        match client.0.read_line(&mut line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            read => break read.map(|_| line),
        }
        assert!(start.elapsed() < Duration::from_secs(20), "it goes on");
    };
    assert_eq!(reply.unwrap(), "421 localhost has waited too long\r\n");
    let taken = start.elapsed();
    assert!(taken >= Duration::from_secs(10), "{taken:?}");
    // A client that has sent its HELO in time has a later deadline.
    eventually("the reason", || {
        server.stderr.text().contains("reason=deadline")
    });
    assert_eq!(printed(server), "");
}

#[test]
fn at_a_stop_every_client_gets_the_reply_to_try_again() {
    let (server, addr) = start();
    let mut clients = [
        Client(BufReader::new(connect(addr))),
        Client::greeted(addr),
        Client::in_data(addr),
        Client::in_data(addr),
    ];
    clients[0].expects("220 ");
    clients[3].sends("half a mail\r\n");
    server.signal(Signal::TERM);
    for client in &mut clients {
        client.expects("421 ");
        assert!(client.is_at_end());
    }
    let ended = server.ends();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, b"");
    assert!(ended.stderr.contains("aborted=0"), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.matches("reason=shutdown").count(),
        4,
        "{}",
        ended.stderr
    );
}
