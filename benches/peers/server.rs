//! A server's process: started in a process group of its own, and killed with the whole group.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::contenders::Contender;
use crate::failure::{Failure, Result};
use crate::usage::Meter;

/// Time limit for a server to answer after its start, and to end after the kill.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The process group to kill if the benchmark ends. `None` while no server runs.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts the contender, and waits until it answers.
    pub(crate) fn start(contender: &Contender, build_dir: &Path) -> Result<Self> {
        let addr = free_address().map_err(|error| cannot("find a free port", &error))?;
        let log = build_dir.join(format!("{}.log", contender.name));
        let file = File::create(&log).map_err(|error| cannot("write a log", &error))?;
        let mut command = contender.command(build_dir, addr.port())?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        command.process_group(0);
        let mut running = lock();
        let child = command
            .spawn()
            .map_err(|error| cannot("start the server", &error))?;
        *running = Some(Pid::from_child(&child));
        drop(running);
        let mut server = Self { child, addr };
        server.wait_until_it_answers(&log)?;
        Ok(server)
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter::new(Pid::from_child(&self.child).as_raw_pid())
    }

    /// Adds the server's exit status to a failure, if the server has ended.
    pub(crate) fn explain(&mut self, failure: Failure) -> Failure {
        match self.child.try_wait() {
            Ok(Some(status)) => Failure::new(format!("{failure}: the server ended, {status}")),
            _ => failure,
        }
    }

    fn wait_until_it_answers(&mut self, log: &Path) -> Result {
        let start = Instant::now();
        while start.elapsed() < TIMEOUT {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = log.display();
                return Err(Failure::new(format!(
                    "the server ended at its start: {status}; see {log}"
                )));
            }
            if answers(self.addr).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(Failure::new(format!(
            "no answer after {} s",
            TIMEOUT.as_secs()
        )))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
        // Wait for the forked processes, too, so that they don't disturb the next server.
        let start = Instant::now();
        while test_kill_process_group(group).is_ok() && start.elapsed() < TIMEOUT {
            thread::sleep(Duration::from_millis(1));
        }
        *lock() = None;
    }
}

/// Kills the running server, if any. Call this before the benchmark ends.
pub(crate) fn end_running() {
    if let Some(group) = lock().take() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn lock() -> MutexGuard<'static, Option<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns an address with a free port, because not every server accepts port 0.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn answers(addr: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {what}: {error}"))
}
