use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Log, eventually};

/// A running HAProxy. It ends when the test ends.
pub(crate) struct Haproxy {
    /// The addresses of its listeners, in order.
    pub(crate) addrs: Vec<SocketAddr>,
    child: Child,
    /// The output of HAProxy, which a failing test prints.
    output: [Log; 2],
}

impl Haproxy {
    /// Starts HAProxy with a listener for each of `servers`. Each of `servers` has the configuration lines of
    /// one listener.
    pub(crate) fn start(servers: &[String]) -> Self {
        let mut config = "global\n  maxconn 2000\n\
                          defaults\n  mode tcp\n  timeout connect 30s\n  timeout client 1m\n  timeout server 1m\n"
            .to_owned();
        let mut addrs = Vec::new();
        for (n, lines) in servers.iter().enumerate() {
            // No other test uses this address, so a port that is free now stays free.
            let port = TcpListener::bind("127.13.37.9:0").unwrap();
            let addr = port.local_addr().unwrap();
            let _ = write!(config, "listen proxy{n}\n  bind {addr}\n  {lines}\n");
            addrs.push((addr, port));
        }
        let addrs = addrs.into_iter().map(|(addr, _)| addr).collect();
        Self::with_config(&config, addrs)
    }

    /// Starts HAProxy with this configuration, and waits until it listens on `addrs`.
    pub(crate) fn with_config(config: &str, addrs: Vec<SocketAddr>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("haproxy-{}.cfg", COUNT.fetch_add(1, Ordering::Relaxed));
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&file, config).unwrap();
        let mut child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = [
            Log::of(child.stdout.take().unwrap()),
            Log::of(child.stderr.take().unwrap()),
        ];
        let mut haproxy = Self {
            addrs,
            child,
            output,
        };
        eventually("a HAProxy that listens", || {
            let said = || haproxy.output.each_ref().map(Log::text).concat();
            assert_eq!(haproxy.child.try_wait().unwrap(), None, "{}", said());
            let addrs = haproxy.addrs.iter();
            addrs.copied().all(|addr| TcpStream::connect(addr).is_ok())
        });
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
