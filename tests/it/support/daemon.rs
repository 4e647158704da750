use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// A running `echod`, which ends with its test.
pub(crate) struct Daemon {
    /// The first address it listens on.
    pub(crate) addr: SocketAddr,
    pub(crate) addrs: Vec<SocketAddr>,
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// What an `echod` that has ended left behind.
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Daemon {
    /// The daemon with no variable of the environment that could change it.
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

    /// Starts one on a free port, logging connections, and waits until it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(
            Self::command()
                .args(["-v", "--listen", "127.0.0.1:0"])
                .args(args),
        )
    }

    /// Starts `command`, which must make it print its addresses, and waits until it listens.
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
        // It closes its standard output after the last address: that ends this.
        let mut printed = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut printed).unwrap();
        let addrs: Vec<SocketAddr> = printed
            .lines()
            // After the name of a service, but for the echo's.
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
        eventually(&format!("{text:?} in the log"), || {
            self.log().contains(text)
        });
    }

    /// Waits for a line of the log that has all of these.
    pub(crate) fn wait_for_line(&self, texts: &[&str]) {
        eventually(&format!("a line with {texts:?} in the log"), || {
            let has_all = |line: &str| texts.iter().all(|text| line.contains(text));
            self.log().lines().any(has_all)
        });
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Output {
        let status = finish(&mut self.child);
        self.reader.take().unwrap().join().unwrap();
        Output {
            code: status.code(),
            log: self.log(),
        }
    }

    /// Asks for a stop, and waits for it.
    pub(crate) fn stop(self) -> Output {
        self.signal(Signal::INT);
        self.wait()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, unless its test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process, which is killed if it does not come.
pub(crate) fn finish(child: &mut Child) -> ExitStatus {
    let mut status = None;
    eventually("the end of the process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}
