//! Client programs that people use with an echo server.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::{Daemon, available, eventually, finish, noise};

/// Runs a program with `input` on standard input, and returns its output.
fn pipe_through(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let mut output = Vec::new();
        stdout.read_to_end(&mut output).unwrap();
        output
    });
    assert!(finish(&mut child).success());
    output
}

/// Sends a line, nothing, and 8 MiB of noise through a program. Each must come back whole before the program
/// ends.
fn is_lossless_through(program: &str, args: impl Fn(&Daemon) -> Vec<String>) {
    if !available(&[program]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let args = args(&daemon);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    for input in [b"hello\n".to_vec(), Vec::new(), noise(11, 8 << 20)] {
        let output = pipe_through(program, &args, &input);
        assert_eq!(output.len(), input.len());
        assert!(output == input, "{program} returned something else");
    }
    let output = daemon.stop();
    assert_eq!(output.code, Some(0));
    assert_eq!(
        output.log.matches("reason=eof").count(),
        3,
        "{}",
        output.log
    );
}

fn host_and_port(daemon: &Daemon) -> [String; 2] {
    [daemon.addr.ip().to_string(), daemon.addr.port().to_string()]
}

#[test]
fn openbsd_netcat_gets_its_echo_and_ends() {
    is_lossless_through("nc.openbsd", |daemon| {
        let [host, port] = host_and_port(daemon);
        vec!["-N".into(), host, port]
    });
}

#[test]
fn ncat_gets_its_echo_and_ends() {
    is_lossless_through("ncat", |daemon| host_and_port(daemon).into());
}

#[test]
fn socat_gets_its_echo_and_ends() {
    is_lossless_through("socat", |daemon| {
        // By default `socat` waits only half a second for the other direction after one direction has ended.
        vec!["-t30".into(), "-".into(), format!("TCP:{}", daemon.addr)]
    });
}

#[test]
fn netcat_without_half_close_ends_when_the_daemon_stops() {
    if !available(&["nc.openbsd"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let mut nc = Command::new("nc.openbsd")
        .args(host_and_port(&daemon))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    nc.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let mut line = [0; 6];
    let mut stdout = nc.stdout.take().unwrap();
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"hello\n");
    assert_eq!(daemon.stop().code, Some(0));
    drop(nc.stdin.take());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    finish(&mut nc);
}

#[test]
fn telnet_on_a_terminal_gets_its_lines_back_and_sees_the_daemon_stop() {
    if !available(&["telnet"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let (mut telnet, mut keyboard, screen) = telnet(&daemon);
    for word in ["hello", "world"] {
        keyboard.write_all(format!("{word}\n").as_bytes()).unwrap();
        // The line appears twice: as typed, and as echoed by the daemon.
        screen.wait_for(word, 2);
    }
    daemon.signal(Signal::INT);
    screen.wait_for("Connection closed by foreign host.", 1);
    finish(&mut telnet);
    assert_eq!(daemon.wait().code, Some(0));
}

#[test]
fn telnet_quits_by_its_escape_character() {
    if !available(&["telnet"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let (mut telnet, mut keyboard, screen) = telnet(&daemon);
    keyboard.write_all(b"\x1d").unwrap();
    screen.wait_for("telnet> ", 1);
    keyboard.write_all(b"quit\n").unwrap();
    finish(&mut telnet);
    daemon.wait_for_log("reason=");
    assert_eq!(daemon.stop().code, Some(0));
}

/// Starts `telnet` on a terminal, and waits until it is connected.
fn telnet(daemon: &Daemon) -> (Child, File, Screen) {
    let (keyboard, terminal) = pseudo_terminal();
    let telnet = Command::new("telnet")
        .args(host_and_port(daemon))
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let screen = Screen::watch(keyboard.try_clone().unwrap());
    screen.wait_for("Escape character is '^]'.", 1);
    (telnet, keyboard, screen)
}

/// Returns both ends of a new pseudo-terminal: the user's end, and the program's end.
fn pseudo_terminal() -> (File, OwnedFd) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = OpenOptions::new()
        .read(true)
        .write(true)
        .open(name.to_str().unwrap())
        .unwrap();
    (person.into(), program.into())
}

/// The text that a terminal has shown so far.
struct Screen(Arc<Mutex<String>>);

impl Screen {
    fn watch(mut terminal: File) -> Self {
        let shown = Self(Arc::default());
        let text = Arc::clone(&shown.0);
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            // The read fails with EIO after the last program has closed the terminal.
            while let Ok(n @ 1..) = terminal.read(&mut buffer) {
                let part = String::from_utf8_lossy(&buffer[..n]).into_owned();
                text.lock().unwrap().push_str(&part);
            }
        });
        shown
    }

    fn wait_for(&self, text: &str, times: usize) {
        eventually(&format!("{text:?} on the screen"), || {
            self.0.lock().unwrap().matches(text).count() >= times
        });
    }
}
