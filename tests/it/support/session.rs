use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, finish};

/// A running program, with its standard input and what it has printed so far.
pub(crate) struct Session {
    child: Child,
    keyboard: Option<ChildStdin>,
    pub(crate) stdout: Log,
    pub(crate) stderr: Log,
}

/// The exit code and the output of a program that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Session {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            keyboard: child.stdin.take(),
            stdout: Log::of(child.stdout.take().unwrap()),
            stderr: Log::of(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Returns the number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn types(&mut self, text: impl AsRef<[u8]>) {
        let keyboard = self.keyboard.as_mut().unwrap();
        keyboard.write_all(text.as_ref()).unwrap();
    }

    /// Ends the standard input, as Ctrl-D does, and waits until the program has ended.
    pub(crate) fn leaves(mut self) -> Ended {
        drop(self.keyboard.take());
        self.ends()
    }

    /// Waits until the program has ended, without ending its standard input.
    pub(crate) fn ends(mut self) -> Ended {
        Ended {
            code: finish(&mut self.child).code(),
            stdout: self.stdout.all(),
            stderr: String::from_utf8(self.stderr.all()).unwrap(),
        }
    }

    /// Waits until the program has logged the address that it listens on.
    pub(crate) fn listening_addr(&self) -> SocketAddr {
        let mark = "listening on ";
        let mut addr = None;
        eventually("the address in the log", || {
            let text = self.stderr.text();
            let line = text
                .split_once(mark)
                .and_then(|(_, rest)| rest.split_once('\n'));
            addr = line.map(|(addr, _)| addr.parse().unwrap());
            addr.is_some()
        });
        addr.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn gets(self, signal: Signal) {
        self.signal(signal);
        self.ends();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If the test passed, the program has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The output of a program.
pub(crate) struct Log {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    pub(crate) fn of(mut source: impl Read + Send + 'static) -> Self {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let log = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut part = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = source.read(&mut part) {
                log.lock().unwrap().extend_from_slice(&part[..n]);
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    pub(crate) fn wait_for(&self, text: &str) {
        eventually(&format!("{text:?} on the screen"), || {
            self.text().contains(text)
        });
    }

    /// Waits for the end of the output, and returns all of it.
    pub(crate) fn all(&mut self) -> Vec<u8> {
        self.reader.take().unwrap().join().unwrap();
        std::mem::take(&mut self.bytes.lock().unwrap())
    }
}
