use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, soon};

/// A running `echod`. It ends when the test ends.
pub(crate) struct Daemon {
    /// The first address that the daemon listens on.
    pub(crate) addr: SocketAddr,
    pub(crate) addrs: Vec<SocketAddr>,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The exit code and the log of an `echod` that has ended.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Daemon {
    /// Returns the command of the daemon, without environment variables that would change its behaviour.
    pub(crate) fn command() -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_echod"));
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("ECHOD_") || name_text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command
    }

    /// Starts a daemon on a free port, which logs connections, and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(
            Self::command()
                .args(["-v", "--listen", "127.0.0.1:0"])
                .args(args),
        )
    }

    /// Starts one on a free port, and returns at once, while the daemon may still be starting.
    pub(crate) fn begin() -> Child {
        let mut command = Self::command();
        command.args(["--listen", "127.0.0.1:0"]);
        let command = command.stdin(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Starts `command`, a daemon, and waits until it listens. `--print-addr` makes the daemon print its
    /// addresses.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .arg("--print-addr")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let log = Arc::clone(&log);
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            move || {
                let mut line = String::new();
                while stderr.read_line(&mut line).unwrap() > 0 {
                    log.lock().unwrap().push_str(&line);
                    line.clear();
                }
            }
        });
        // The daemon closes its standard output after the last address, so this read ends.
        let mut printed = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut printed).unwrap();
        let addrs: Vec<SocketAddr> = printed
            .lines()
            // The address follows the name of the service. The echo has no name here.
            .map(|line| line.rsplit('=').next().unwrap().parse().unwrap())
            .collect();
        assert!(
            !addrs.is_empty(),
            "it did not start: {}",
            log.lock().unwrap()
        );
        Self {
            addr: addrs[0],
            addrs,
            child,
            log,
            reader: Some(reader),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        let found = soon(|| self.log().contains(text));
        assert!(found, "no {text:?} in the log: {}", self.log());
    }

    /// Waits for a line of the log that has all of these texts.
    pub(crate) fn wait_for_line(&self, texts: &[&str]) {
        let has_all = |line: &str| texts.iter().all(|text| line.contains(text));
        let found = soon(|| self.log().lines().any(has_all));
        assert!(found, "no line with {texts:?} in the log: {}", self.log());
    }

    /// Waits until the daemon has ended.
    pub(crate) fn wait(mut self) -> Output {
        let status = finish(&mut self.child);
        self.reader.take().unwrap().join().unwrap();
        Output {
            code: status.code(),
            log: self.log(),
        }
    }

    /// Stops the daemon by SIGINT, and waits until it has ended.
    pub(crate) fn stop(self) -> Output {
        self.signal(Signal::INT);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // If the test passed, the daemon has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a process has ended, and fails if it does not end in time.
pub(crate) fn finish(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of the process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
