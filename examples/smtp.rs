//! A mail server (SMTP, RFC 5321) for testing programs that send mail: prints each mail.
//!
//! ```sh
//! cargo run --example smtp
//! printf 'Subject: hi\n\nhello\n' | curl --crlf -T - --mail-from ann@here --mail-rcpt bob@there \
//!   smtp://127.0.0.1:7007     # in another terminal
//! ```
//!
//! The server accepts mail from any sender to any recipient, and passes none of it on.

#[path = "support/serve.rs"]
mod serve;
mod support;

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use socketserver::{Connection, RequestHandler, TcpServer};

/// The most bytes of a line (RFC 5321, 4.5.3.1.6). A longer line of a mail is read in parts.
const LONGEST: u64 = 1000;
/// The most bytes of a mail, which the server keeps in memory.
const LARGEST: usize = 1 << 20;
/// The most recipients of a mail.
const RECIPIENTS: usize = 100;
/// Time limit from the connection to a HELO, however slowly the bytes arrive.
const GREETING: Duration = Duration::from_secs(10);
/// Time limit for each command, and for a client to read a reply (RFC 5321, 4.5.3.2).
const COMMAND: Duration = Duration::from_secs(5 * 60);
/// Time limit for a mail (RFC 5321, 4.5.3.2).
const MAIL: Duration = Duration::from_secs(10 * 60);

#[derive(Default)]
struct Smtp {
    has_greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl RequestHandler for Smtp {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let mut reply = &*conn;
        match self.talk(conn) {
            // When the server stops, the input ends. The reply tells the client to try again later.
            Err(_) if conn.is_closing() => reply.write_all(b"421 localhost stops\r\n"),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                // After a deadline, writes fail, too, until there is a new deadline.
                conn.set_deadline(Instant::now() + GREETING);
                reply.write_all(b"421 localhost has waited too long\r\n")
            }
            // The client closed without a QUIT. If it was sending a mail, the mail is dropped.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(()),
            talked => talked,
        }
    }
}

impl Smtp {
    /// Answers commands until the client quits.
    ///
    /// A client may send several commands before it reads a reply (RFC 2920). The reader buffers them.
    fn talk(&mut self, conn: &Connection) -> io::Result<()> {
        let mut input = BufReader::new(conn);
        let reply = |text: &str| write!(&mut &*conn, "{text}\r\n");
        conn.set_deadline(Instant::now() + GREETING);
        reply("220 localhost is ready")?;
        loop {
            let mut line = Vec::new();
            let n = (&mut input).take(LONGEST).read_until(b'\n', &mut line)? as u64;
            if !line.ends_with(b"\n") {
                return match n {
                    LONGEST => reply("500 the line is too long"),
                    _ => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
            // An address may have any bytes. Bytes that are not UTF-8 are replaced.
            let line = String::from_utf8_lossy(line.trim_ascii());
            let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
            match &*command.to_ascii_uppercase() {
                "QUIT" => return reply("221 goodbye"),
                "DATA" if !self.to.is_empty() => {
                    conn.set_deadline(Instant::now() + MAIL);
                    reply("354 go on, and end with a line that is a dot")?;
                    let mail = read_mail(&mut input)?;
                    reply(&mail.map_or_else(too_large, |mail| self.deliver(&mail)))?;
                    self.forget_mail();
                }
                command => reply(&self.answer(command, argument))?,
            }
            if self.has_greeted {
                conn.set_deadline(Instant::now() + COMMAND);
            }
        }
    }

    fn answer(&mut self, command: &str, argument: &str) -> String {
        match command {
            "HELO" | "EHLO" if argument.is_empty() => return "501 who are you?".to_owned(),
            "HELO" | "EHLO" => {
                self.has_greeted = true;
                self.forget_mail();
                if command == "HELO" {
                    return "250 localhost".to_owned();
                }
                return format!(
                    "250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE {LARGEST}"
                );
            }
            "RSET" => self.forget_mail(),
            "NOOP" => {}
            "MAIL" if !self.has_greeted => return "503 HELO comes first".to_owned(),
            "MAIL" if self.from.is_some() => return "503 there is a sender".to_owned(),
            "MAIL" => match path(argument, "FROM:") {
                None => return "501 MAIL FROM:<address>".to_owned(),
                Some((_, size)) if size > LARGEST => return too_large(),
                Some((from, _)) => self.from = Some(from),
            },
            "RCPT" if self.from.is_none() => return "503 MAIL comes first".to_owned(),
            "RCPT" if self.to.len() == RECIPIENTS => return "452 too many recipients".to_owned(),
            "RCPT" => match path(argument, "TO:") {
                Some((to, _)) if !to.is_empty() => self.to.push(to),
                _ => return "501 RCPT TO:<address>".to_owned(),
            },
            "DATA" => return "503 RCPT comes first".to_owned(),
            "VRFY" => return "252 send, and see".to_owned(),
            _ => return "500 unknown command".to_owned(),
        }
        "250 ok".to_owned()
    }

    fn forget_mail(&mut self) {
        (self.from, self.to) = (None, Vec::new());
    }

    /// Prints the mail, and returns the reply. After a 250 the client may delete its own copy.
    fn deliver(&self, mail: &[u8]) -> String {
        let (from, to) = (self.from.as_deref().unwrap_or(""), self.to.join("> <"));
        let header = support::printable(format!("--- from <{from}> to <{to}>").as_bytes());
        match writeln!(io::stdout(), "{header}\n{}", support::printable(mail)) {
            Ok(()) => "250 printed".to_owned(),
            Err(_) => "451 the mail can't be printed now".to_owned(),
        }
    }
}

fn too_large() -> String {
    format!("552 a mail may have {LARGEST} bytes")
}

/// Reads `FROM:<address> SIZE=1000`. Returns the address and the size, or 0 without a size.
fn path(argument: &str, prefix: &str) -> Option<(String, usize)> {
    let (start, path) = argument.split_at_checked(prefix.len())?;
    let (path, parameters) = path.trim_start().strip_prefix('<')?.split_once('>')?;
    let parameters = parameters.to_ascii_uppercase();
    let mut parameters = parameters.split_ascii_whitespace();
    let size = parameters.find_map(|parameter| parameter.strip_prefix("SIZE="));
    let size = size.map_or(Some(0), |size| size.parse().ok())?;
    start
        .eq_ignore_ascii_case(prefix)
        .then(|| (path.to_owned(), size))
}

/// Reads a mail up to the line that has only a dot. Returns `None` if the mail is too large.
fn read_mail(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let (mut mail, mut is_too_large) = (Vec::new(), false);
    loop {
        // Only CR LF ends a line. If a bare LF did, a sender could smuggle a second mail through a server
        // that takes both for one mail.
        let begins_line = mail.is_empty() || mail.ends_with(b"\r\n");
        let start = mail.len();
        if input.take(LONGEST).read_until(b'\n', &mut mail)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if begins_line && mail[start..] == *b".\r\n" {
            mail.truncate(start);
            return Ok((!is_too_large).then_some(mail));
        }
        // The sender has put a dot before each line that begins with one (RFC 5321, 4.5.2).
        if begins_line && mail[start] == b'.' {
            mail.remove(start);
        }
        if mail.len() > LARGEST {
            // Read on, so that the client gets the reply, but keep only what finds the last line.
            is_too_large = true;
            mail.drain(..mail.len() - 2);
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let addr = support::argument(1, "127.0.0.1:7007");
    let builder = TcpServer::builder().write_timeout(COMMAND);
    serve::serve(builder, &addr, Smtp::default)
}
