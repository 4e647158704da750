//! Two daemons behind HAProxy, with the configuration of `systemd/haproxy.md`. One daemon is restarted. The
//! other is drained, and later killed. No other client loses a byte.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::{
    Daemon, Haproxy, available, connect_from, eventually, noise, ping, read_to_end,
};

/// The source address of HAProxy, which the kernel chooses for the loopback.
const BALANCER: &str = "127.0.0.1";

/// The names and addresses of the servers on the page, which the test replaces. No other test listens on the
/// replacements.
const SERVERS: [(&str, &str); 2] = [("one", "192.0.2.11"), ("two", "192.0.2.12")];

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/haproxy.md");
    fs::read_to_string(path).unwrap()
}

/// Returns the first code block of this language.
fn block(page: &str, language: &str) -> String {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

/// Returns a free port of `ip`. No other program uses ports of that address.
fn free_port(ip: &str) -> u16 {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Two daemons, and a HAProxy in front of them.
struct Farm {
    with_header: bool,
    ip: String,
    port: u16,
    ready_port: u16,
    daemons: [Option<Daemon>; 2],
    haproxy: Haproxy,
    socket: PathBuf,
}

impl Farm {
    /// Starts all of them on addresses that begin with `net`, and waits until both daemons are up.
    fn start(net: &str, with_header: bool) -> Self {
        let at = |n: usize| format!("{net}.{}", n + 11);
        let (port, ready_port) = (free_port(&at(0)), free_port(&at(1)));
        let ip = format!("{net}.10");
        let addr = SocketAddr::new(ip.parse().unwrap(), free_port(&ip));
        let name = format!("haproxy-{}-{with_header}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let mut config = block(&page(), "haproxy");
        for (from, to) in [
            ("bind :7".to_owned(), format!("bind {addr}")),
            ("port 9007".to_owned(), format!("port {ready_port}")),
            ("192.0.2.11:7".to_owned(), format!("{}:{port}", at(0))),
            ("192.0.2.12:7".to_owned(), format!("{}:{port}", at(1))),
            (
                "/run/haproxy/admin.sock".to_owned(),
                socket.display().to_string(),
            ),
            ("maxconn 20000".to_owned(), "maxconn 2000".to_owned()),
            // Check more often, so that the test is faster.
            ("inter 1s".to_owned(), "inter 200ms".to_owned()),
        ] {
            assert!(config.contains(&from), "{from:?} is not in the page");
            config = config.replace(&from, &to);
        }
        if !with_header {
            config = config
                .replace(" send-proxy-v2", "")
                .replace(" send-proxy", "");
        }
        let mut farm = Self {
            with_header,
            ip: net.to_owned(),
            port,
            ready_port,
            daemons: [None, None],
            haproxy: Haproxy::with_config(&config, vec![addr]),
            socket,
        };
        farm.run_daemon(0);
        farm.run_daemon(1);
        farm
    }

    /// Starts a daemon with the variables of the page, and waits until HAProxy reports it as up.
    fn run_daemon(&mut self, server: usize) {
        let ip = format!("{}.{}", self.ip, server + 11);
        let mut command = Daemon::command();
        for line in block(&page(), "sh").lines() {
            let (name, value) = line.split_once('=').unwrap();
            let value = value
                .replace("192.0.2.10", BALANCER)
                .replace("192.0.2.11:9007", &format!("{ip}:{}", self.ready_port))
                .replace("5s", "2s");
            if self.with_header || name != "ECHOD_PROXY_PROTOCOL" {
                command.env(name, value);
            }
        }
        let (name, _) = SERVERS[server];
        command.args(["-v", "--banner", name, "--listen"]);
        command.arg(format!("{ip}:{}", self.port));
        self.daemons[server] = Some(Daemon::spawn(&mut command));
        self.wait_for(server, "UP");
    }

    fn take_daemon(&mut self, server: usize) -> Daemon {
        self.daemons[server].take().unwrap()
    }

    /// Sends a command to the socket of HAProxy, and returns the answer.
    fn admin(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(&self.socket).unwrap();
        writeln!(socket, "{command}").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Waits until HAProxy reports a server in this state.
    fn wait_for(&self, server: usize, status: &str) {
        let (name, _) = SERVERS[server];
        eventually(&format!("server {name} {status}"), || {
            let stat = self.admin("show stat");
            let row = stat
                .lines()
                .find(|row| row.starts_with(&format!("echods,{name},")));
            row.unwrap().split(',').nth(17).unwrap() == status
        });
    }

    /// Connects a client, and returns it with the name of the server that answers.
    fn connect(&self) -> (TcpStream, String) {
        let client = connect_from("127.0.0.77", self.haproxy.addrs[0]);
        let mut server = String::new();
        // The buffer is as large as the line, so that the reader takes no byte after it.
        BufReader::with_capacity(5, &client)
            .read_line(&mut server)
            .unwrap();
        (client, server.trim_end().to_owned())
    }

    /// Expects that this server, and only this one, serves new clients.
    fn all_go_to(&self, server: usize) {
        for _ in 0..10 {
            let (client, name) = self.connect();
            assert_eq!(name, SERVERS[server].0);
            ping(&client, b"hello");
        }
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

/// Sends messages and compares their echo until `done`. Then half-closes, and expects end of file. Returns an
/// error if the connection ends earlier.
fn converse(client: &TcpStream, seed: u64, done: &AtomicBool) -> io::Result<()> {
    let message = noise(seed, 10_000);
    let mut echo = vec![0; message.len()];
    while !done.load(Ordering::Relaxed) {
        (&mut &*client).write_all(&message)?;
        (&mut &*client).read_exact(&mut echo)?;
        assert!(echo == message, "wrong bytes");
    }
    client.shutdown(Shutdown::Write)?;
    assert_eq!(read_to_end(client)?, b"");
    Ok(())
}

fn no_other_client_loses_a_byte(net: &str, with_header: bool) {
    if !available(&["haproxy"]) {
        return;
    }
    let mut farm = Farm::start(net, with_header);
    let clients: Vec<_> = (0..20).map(|_| farm.connect()).collect();
    for (name, _) in SERVERS {
        let count = clients.iter().filter(|(_, server)| server == name).count();
        assert_eq!(count, 10, "the balance by connections");
    }
    let done = AtomicBool::new(false);
    let (ended, later) = thread::scope(|scope| {
        let converse = |(seed, (client, server)): (u64, (TcpStream, String))| {
            let done = &done;
            let thread = scope.spawn(move || converse(&client, seed, done));
            (server, thread)
        };
        let talking: Vec<_> = (0..).zip(clients).map(converse).collect();

        // A restart: HAProxy takes the server out before the server refuses clients.
        let first = farm.take_daemon(0);
        first.signal(Signal::TERM);
        farm.wait_for(0, "DOWN");
        farm.all_go_to(1);
        let output = first.wait();
        assert_eq!(output.code, Some(0), "{}", output.log);
        if with_header {
            assert!(output.log.contains("peer=127.0.0.77:"), "{}", output.log);
        }
        farm.run_daemon(0);
        let later: Vec<_> = (0..5).map(|_| farm.connect()).collect();
        assert!(later.iter().all(|(_, server)| server == "one"));
        let later: Vec<_> = (20..).zip(later).map(converse).collect();

        // A drain: no connection is cut off.
        farm.admin("set server echods/two state drain");
        farm.all_go_to(0);
        farm.admin("set server echods/two state ready");
        farm.wait_for(1, "UP");

        // A crash: HAProxy tries a refused connection at the other server.
        let second = farm.take_daemon(1);
        second.signal(Signal::KILL);
        second.wait();
        farm.all_go_to(0);
        done.store(true, Ordering::Relaxed);
        let ends = |talking: Vec<(String, thread::ScopedJoinHandle<'_, io::Result<()>>)>| {
            let end = |(server, thread): (String, thread::ScopedJoinHandle<'_, _>)| {
                (server, thread.join().unwrap())
            };
            talking.into_iter().map(end).collect::<Vec<_>>()
        };
        (ends(talking), ends(later))
    });
    // The restart and the crash have ended the first clients, but no later client.
    assert!(ended.iter().all(|(_, end)| end.is_err()), "{ended:?}");
    assert!(later.iter().all(|(_, end)| end.is_ok()), "{later:?}");
}

#[test]
fn with_headers_no_other_client_loses_a_byte() {
    no_other_client_loses_a_byte("127.13.38", true);
}

#[test]
fn without_headers_no_other_client_loses_a_byte() {
    no_other_client_loses_a_byte("127.13.39", false);
}

#[test]
fn haproxy_finds_nothing_to_warn_of_in_the_configuration() {
    if !available(&["haproxy"]) {
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("haproxy-page.cfg");
    fs::write(&file, block(&page(), "haproxy")).unwrap();
    let output = Command::new("haproxy")
        .args(["-c", "-q", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}
