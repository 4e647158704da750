use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// A running xinetd with one of its internal services. It ends when the test ends.
pub(crate) struct Xinetd {
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Xinetd {
    pub(crate) fn start(service: &str) -> Self {
        // No other test uses this address, so a port that is free now stays free.
        let bind = "127.13.37.7";
        let port = TcpListener::bind((bind, 0)).unwrap();
        let addr = port.local_addr().unwrap();
        drop(port);
        let config = format!(
            "service {service}\n{{\n\
             type = INTERNAL UNLISTED\nid = {service}-stream\nsocket_type = stream\n\
             protocol = tcp\nwait = no\nbind = {bind}\nport = {}\n}}\n",
            addr.port()
        );
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let file = place.join(format!("xinetd-{service}.conf"));
        fs::write(&file, config).unwrap();
        let child = Command::new("xinetd")
            .args(["-dontfork", "-f"])
            .arg(&file)
            .arg("-pidfile")
            .arg(file.with_extension("pid"))
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let xinetd = Self { addr, child };
        eventually("an xinetd that listens", || {
            TcpStream::connect(addr).is_ok()
        });
        xinetd
    }
}

impl Drop for Xinetd {
    fn drop(&mut self) {
        // SIGTERM lets xinetd end its child processes, too.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
