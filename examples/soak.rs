//! Runs mixed clients against this library's echo at full speed, and then looks for leaks.
//!
//! ```sh
//! cargo run --release --example soak -- --for 10m
//! cargo run --release --example soak -- --for 10s --clients 100
//! ```
//!
//! The server is a process of its own. The run fails if any echo is wrong, or if at the end the server holds
//! more descriptors, threads or memory than after the warm-up.

#[path = "conformance/cases.rs"]
mod cases;
#[path = "conformance/client.rs"]
mod client;
mod support;

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fmt, fs, io, process};

use clap::Parser;
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;
use socketserver::{EchoHandler, TcpServer};

use cases::{CASES, Case};
use support::{complain, print, printed};

#[derive(Parser)]
#[command(about = "Runs mixed clients against an echo server, and then looks for leaks")]
struct Cli {
    /// Run for this long, such as 30s or 10m
    #[arg(long = "for", value_name = "DUR", default_value = "1m")]
    time: SignedDuration,

    /// Number of clients at the same time
    #[arg(long, default_value_t = 16)]
    clients: u64,

    /// Seed of the random clients and contents
    #[arg(long, default_value_t = 862)]
    seed: u64,

    /// Run as the server
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        printed(error.print());
        process::exit(error.exit_code())
    });
    let done = if cli.serve { serve() } else { soak(&cli) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("FAIL: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn soak(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let time = Duration::try_from(cli.time)?;
    let server = Server::start()?;
    // Warm up, so that what the server keeps for reuse is there before the first sample.
    play_all(
        &server,
        cli.clients,
        time.min(Duration::from_secs(5)) / 2,
        cli.seed,
        "warming up",
    )?;
    // Idle threads end after 10 s.
    let before = server.wait_until_idle(Duration::from_secs(11), |_| false)?;
    let played = play_all(&server, cli.clients, time, !cli.seed, "playing")?;
    let after = server.wait_until_idle(Duration::from_secs(30), |held| {
        held.leaks(&before).is_none()
    })?;
    print(format_args!(
        "before: {before}\nafter:  {after}\n{played} cases run, none failed"
    ));
    match after.leaks(&before) {
        None => Ok(()),
        Some(what) => Err(format!("a leak of {what}").into()),
    }
}

/// Serves until standard input ends. The parent process closes it, also when it is killed.
fn serve() -> Result<(), Box<dyn Error>> {
    let server = TcpServer::bind("127.0.0.1:0")?;
    let handle = server.handle();
    print(server.local_addr());
    thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        handle.shutdown();
    });
    let totals = server.serve_forever(EchoHandler::new)?;
    match totals.aborted() {
        0 => Ok(()),
        aborted => Err(format!("the server aborted {aborted} connections when it stopped").into()),
    }
}

/// Runs light cases in `clients` threads for `time`. Returns how many have run, or a failure.
fn play_all(
    server: &Server,
    clients: u64,
    time: Duration,
    seed: u64,
    what: &'static str,
) -> Result<u64, String> {
    let light: Vec<&Case> = CASES.iter().filter(|case| case.light).collect();
    let played = AtomicU64::new(0);
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}");
    let progress = ProgressBar::new(time.as_secs())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let start = Instant::now();
    let failed = thread::scope(|scope| {
        let play = |seed: u64| {
            let mut rng = Rng::with_seed(seed);
            while start.elapsed() < time {
                let case = light[rng.usize(..light.len())];
                (case.play)(server.addr, &mut rng)
                    .map_err(|failure| format!("seed {seed}: {}: {failure}", case.name))?;
                let played = played.fetch_add(1, Ordering::Relaxed) + 1;
                progress.set_message(format!("{what}, {played} cases"));
                progress.set_position(start.elapsed().as_secs());
            }
            Ok(())
        };
        let players: Vec<_> = (0..clients)
            .map(|n| scope.spawn(move || play(seed.wrapping_add(n))))
            .collect();
        let results = players.into_iter().map(|player| {
            let panicked = |_| Err("a client panicked".to_owned());
            player.join().unwrap_or_else(panicked)
        });
        // Join all of them, so that no client is left when this returns.
        results.fold(Ok(()), Result::and)
    });
    progress.finish_and_clear();
    failed.map(|()| played.into_inner())
}

/// The server's process.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start() -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?)
            .arg("--serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let addr = line.trim().parse()?;
        Ok(Self { child, addr })
    }

    /// Waits until `is_idle` or for `time`, and returns what the server then holds.
    fn wait_until_idle(&self, time: Duration, is_idle: impl Fn(&Held) -> bool) -> io::Result<Held> {
        let progress = ProgressBar::new_spinner().with_message("waiting for idle threads to end");
        let start = Instant::now();
        let mut held = self.held()?;
        while !is_idle(&held) && start.elapsed() < time {
            progress.tick();
            thread::sleep(Duration::from_millis(100));
            held = self.held()?;
        }
        progress.finish_and_clear();
        Ok(held)
    }

    fn held(&self) -> io::Result<Held> {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Ok(Held {
            descriptors: fs::read_dir(format!("{process}/fd"))?.count(),
            threads: field("Threads:").unwrap_or(0),
            kilobytes: field("VmRSS:").unwrap_or(0),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its standard input stops the server.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The resources that a process holds.
struct Held {
    descriptors: usize,
    threads: usize,
    kilobytes: usize,
}

impl Held {
    /// Memory that the allocator may keep, in kB. In a long run, ten bytes a connection are more.
    const SLACK: usize = 2048;

    fn leaks(&self, before: &Self) -> Option<&'static str> {
        if self.descriptors > before.descriptors {
            Some("descriptors")
        } else if self.threads > before.threads {
            Some("threads")
        } else if self.kilobytes > before.kilobytes + Self::SLACK {
            Some("memory")
        } else {
            None
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} descriptors, {} threads, {} kB resident",
            self.descriptors, self.threads, self.kilobytes
        )
    }
}
