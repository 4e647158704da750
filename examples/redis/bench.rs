//! The benchmark: runs `redis-benchmark` against three servers, in rounds, and prints a table of medians.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

/// The size of a run. A larger run is slower and more exact.
pub(crate) struct Extent {
    rounds: usize,
    /// Divides the number of requests.
    part: u32,
}

pub(crate) const FULL: Extent = Extent {
    rounds: 21,
    part: 1,
};

/// For the tests, which only check that the benchmark works.
pub(crate) const QUICK: Extent = Extent {
    rounds: 1,
    part: 30,
};

struct Load {
    clients: u32,
    pipeline: u32,
    /// About as many requests as a server answers in a third of a second.
    requests: u32,
}

const LOADS: [Load; 4] = [
    Load {
        clients: 1,
        pipeline: 1,
        requests: 8_000,
    },
    Load {
        clients: 1,
        pipeline: 16,
        requests: 100_000,
    },
    Load {
        clients: 50,
        pipeline: 1,
        requests: 12_000,
    },
    Load {
        clients: 50,
        pipeline: 16,
        requests: 120_000,
    },
];

const COMMANDS: [&str; 3] = ["GET", "SET", "INCR"];

/// Measures, and prints the table.
pub(crate) fn run(extent: &Extent) -> Result<(), Box<dyn Error>> {
    let servers = [Server::redis()?, Server::own(&[])?, Server::own(&["bare"])?];
    // The rates of each row of the table, of each server, in each round.
    let mut rows = vec![[const { Vec::new() }; 3]; LOADS.len() * COMMANDS.len()];
    let progress = progress(extent.rounds * rows.len());
    for round in 0..extent.rounds {
        for (n, row) in rows.iter_mut().enumerate() {
            let (load, command) = what(n);
            // Every round begins with another server, because a run may affect the next one.
            for server in (0..servers.len()).map(|n| (n + round) % servers.len()) {
                let requests = load.requests / extent.part;
                row[server].push(measure(servers[server].addr, load, command, requests)?);
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    println!("{}", table(&rows));
    Ok(())
}

/// Returns the load and the command of row `n` of the table.
fn what(n: usize) -> (&'static Load, &'static str) {
    (&LOADS[n / COMMANDS.len()], COMMANDS[n % COMMANDS.len()])
}

/// Runs `redis-benchmark`, and returns the requests per second.
fn measure(
    addr: SocketAddr,
    load: &Load,
    command: &str,
    requests: u32,
) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("redis-benchmark")
        .args(["--csv", "-t", &command.to_lowercase()])
        .args(["-h", &addr.ip().to_string()])
        .args(["-p", &addr.port().to_string()])
        .args(["-c", &load.clients.to_string()])
        .args(["-P", &load.pipeline.to_string()])
        .args(["-n", &requests.to_string()])
        .output()
        .map_err(|error| format!("cannot run redis-benchmark: {error}"))?;
    // The output is a header, then a line with `"GET","83333.33",` and latencies.
    let csv = String::from_utf8_lossy(&output.stdout);
    let start = format!("\"{command}\",\"");
    let line = csv.lines().find_map(|line| line.strip_prefix(&start));
    match line.and_then(|line| line.split('"').next()?.parse().ok()) {
        Some(rate) if output.status.success() => Ok(rate),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("redis-benchmark failed: {csv}{errors}").into())
        }
    }
}

fn table(rows: &[[Vec<f64>; 3]]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "clients",
        "pipeline",
        "command",
        "redis-server",
        "bare threads",
        "this library",
        "library / bare (middle half)",
    ]);
    for (n, [redis, library, bare]) in rows.iter().enumerate() {
        let (load, command) = what(n);
        // Compare within a round, because the load of the machine changes from round to round.
        let ratios: Vec<_> = library.iter().zip(bare).map(|(l, b)| l / b).collect();
        let ratios = sorted(&ratios);
        table.add_row([
            load.clients.to_string(),
            load.pipeline.to_string(),
            command.to_owned(),
            format!("{:.0}", median(redis)),
            format!("{:.0}", median(bare)),
            format!("{:.0}", median(library)),
            format!(
                "{:.2} ({:.2} to {:.2})",
                median(&ratios),
                ratios[ratios.len() / 4],
                ratios[ratios.len() * 3 / 4]
            ),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn median(values: &[f64]) -> f64 {
    sorted(values)[values.len() / 2]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(steps as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A server process. Dropping this value ends the process.
struct Server {
    addr: SocketAddr,
    process: Child,
}

impl Server {
    /// Starts this same program, as a server on a free port.
    fn own(args: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(env::current_exe()?);
        command.args(args).arg("127.0.0.1:0");
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take();
        // Make the value now, so that an error below ends the process, too.
        let mut server = Self {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            process,
        };
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no standard output")?).read_line(&mut line)?;
        let addr = line.trim_end().strip_prefix("listening at ");
        server.addr = addr.ok_or("a server did not start")?.parse()?;
        Ok(server)
    }

    /// Starts `redis-server`, without saving to disk, and waits until it listens.
    fn redis() -> Result<Self, Box<dyn Error>> {
        // `redis-server` does not accept port 0, so look for a free port. Another program may take it
        // meanwhile.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            &addr.ip().to_string(),
            "--port",
            &addr.port().to_string(),
        ]);
        command.args(["--save", "", "--appendonly", "no"]);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.map_err(|error| format!("cannot run redis-server: {error}"))?;
        let mut server = Self { addr, process };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(addr).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > deadline {
                return Err("redis-server did not start".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // These fail only if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
