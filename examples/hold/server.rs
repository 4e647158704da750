//! The server, as a process of its own: this same program, with a hidden option.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use socketserver::{EchoHandler, TcpServer};

use crate::clients::progress;
use crate::proc::Sample;
use crate::support::print;

/// Serves until standard input ends. The parent process closes it to stop the server.
pub(crate) fn serve(connections: u32) -> Result<(), Box<dyn Error>> {
    // One more slot, so that the server never has to wait for one.
    let server = TcpServer::builder()
        .max_connections(usize::try_from(connections)? + 1)
        .bind("127.0.0.1:0")?;
    let handle = server.handle();
    print(server.local_addr());
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        handle.shutdown();
    });
    let totals = server.serve_forever(EchoHandler::new)?;
    let (all, bytes_in, bytes_out) = (totals.connections(), totals.bytes_in(), totals.bytes_out());
    print(format_args!(
        "connections={all} bytes_in={bytes_in} bytes_out={bytes_out}"
    ));
    match totals.aborted() {
        0 => Ok(()),
        aborted => Err(format!("the server aborted {aborted} connections when it stopped").into()),
    }
}

/// The server's process.
pub(crate) struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) addr: SocketAddr,
    pub(crate) peak_threads: f64,
}

impl Server {
    pub(crate) fn start(connections: u32) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--serve", "--connections", &connections.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        Ok(Self {
            addr: line.trim().parse()?,
            child,
            output,
            peak_threads: 0.0,
        })
    }

    /// Samples the server for this long.
    pub(crate) fn watch(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        let progress = progress("seconds held", time.as_secs());
        let start = Instant::now();
        while start.elapsed() < time {
            thread::sleep(Duration::from_millis(100).min(time));
            progress.set_position(start.elapsed().as_secs());
            self.sample()?;
        }
        Ok(())
    }

    pub(crate) fn sample(&mut self) -> Result<Sample, Box<dyn Error>> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let stat = fs::read_to_string(format!("{process}/stat"))?;
        // A process that has ended has no memory.
        let sample = Sample::parse(&status, &stat).ok_or("the server has ended")?;
        self.peak_threads = self.peak_threads.max(sample.threads);
        Ok(sample)
    }

    /// Stops the server: ends its standard input.
    pub(crate) fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until the server has ended, and returns its totals.
    pub(crate) fn wait(&mut self) -> Result<String, Box<dyn Error>> {
        let mut totals = String::new();
        self.output.read_to_string(&mut totals)?;
        match self.child.wait()? {
            status if status.success() => Ok(totals),
            status => Err(format!("the server failed: {status}").into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = self.child.wait();
    }
}
