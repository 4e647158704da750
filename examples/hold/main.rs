//! Holds thousands of connections, silent most of the time, and shows what each one costs.
//!
//! ```sh
//! cargo run --release --example hold
//! cargo run --release --example hold -- --connections 5000 --for 15s
//! ```
//!
//! The server is a process of its own. Every client sends a message of its own at the start and at the end,
//! and then the server stops while all clients are connected. The run fails if an echo is wrong, or if a
//! connection does not end with a clean end of file. The figures come from `/proc`. The kernel's figures are
//! for the whole machine and include both ends of each connection.

mod clients;
mod proc;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::error::Error;
use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};

use clap::Parser;
use comfy_table::{Table, presets};
use jiff::SignedDuration;
use rustix::process::{Resource, getrlimit, setrlimit};

use clients::{connect_all, echo_all, end_all};
use proc::kernel_memory;
use server::{Server, serve};
use support::{complain, print, printed};

#[derive(Parser)]
#[command(about = "Holds many connections to an echo server, and shows what they cost")]
struct Cli {
    /// Connections to hold [default: as many as descriptors allow, at most 50000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    connections: Option<u32>,

    /// Hold them this long, such as 2s; idle threads end after 10s
    #[arg(long = "for", value_name = "DUR", default_value = "2s")]
    time: SignedDuration,

    /// Run as the server
    #[arg(long, hide = true, requires = "connections")]
    serve: bool,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        printed(error.print());
        exit(error.exit_code())
    });
    let done = match cli.connections {
        Some(connections) if cli.serve => serve(connections),
        _ => hold(&cli).map(|report| print(report.table)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("FAIL: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn hold(cli: &Cli) -> Result<Report, Box<dyn Error>> {
    let time = Duration::try_from(cli.time)?;
    let connections = connections(cli.connections)?;
    let mut report = Report::new(connections);
    let mut server = Server::start(connections)?;
    let before = server.sample()?;
    let kernel_before = kernel_memory();

    let clients = report.timed("connected", || connect_all(server.addr, connections))?;
    server.sample()?;
    report.timed("echoed at start", || echo_all("start", &clients))?;

    let rest = server.sample()?;
    server.watch(time)?;
    let held = server.sample()?;
    report.row("resident before, kB", &before.resident);
    let cost = held.resident - before.resident;
    report.cost("resident while held, kB", held.resident, cost);
    for (what, held) in kernel_memory() {
        if let Some((_, before)) = kernel_before.iter().find(|(name, _)| *name == what) {
            report.cost(&what, held - before, held - before);
        }
    }
    report.row("CPU while held, s", &format!("{:.2}", held.cpu - rest.cpu));

    report.timed("echoed at end", || echo_all("end", &clients))?;
    server.sample()?;
    report.row("threads at rest", &held.threads);
    report.row("threads at peak", &server.peak_threads);

    let totals = report.timed("stopped while connected", || {
        server.stop();
        end_all(clients)?;
        server.wait()
    })?;
    for (what, total) in totals.split_whitespace().filter_map(|t| t.split_once('=')) {
        report.row(&format!("server's total: {what}"), &total);
    }
    Ok(report)
}

/// Descriptors left for everything else that a process opens.
const OTHER_DESCRIPTORS: u64 = 600;

/// The highest default. A firewall often tracks at most 65,536 connections.
const DEFAULT_AT_MOST: u64 = 50_000;

/// Raises the limit on open descriptors, which the server inherits, and checks it.
fn connections(wanted: Option<u32>) -> Result<u32, Box<dyn Error>> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    let limit = limit.maximum.unwrap_or(u64::MAX);
    let fit = limit.saturating_sub(OTHER_DESCRIPTORS);
    let connections = wanted.map_or(fit.clamp(1, DEFAULT_AT_MOST), u64::from);
    if connections > fit {
        return Err(format!(
            "{connections} connections do not fit: the hard limit of {limit} descriptors \
             (`ulimit -Hn`) allows {fit}"
        )
        .into());
    }
    Ok(u32::try_from(connections)?)
}

/// The table: what was measured, its total, and its share for each connection.
struct Report {
    table: Table,
    connections: f64,
}

impl Report {
    fn new(connections: u32) -> Self {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([&format!("{connections} connections"), "all", "each"]);
        Self {
            table,
            connections: f64::from(connections),
        }
    }

    fn row(&mut self, what: &str, value: &impl ToString) {
        self.table.add_row([what, &value.to_string(), ""]);
    }

    /// Adds a total, and each connection's share of `cost`.
    fn cost(&mut self, what: &str, total: f64, cost: f64) {
        let each = format!("{:.2}", cost / self.connections);
        self.table.add_row([what, &format!("{total:.0}"), &each]);
    }

    /// Runs `work`, and adds how long it took.
    fn timed<T, E>(&mut self, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let done = work()?;
        let seconds = start.elapsed().as_secs_f64();
        self.row(&format!("{what}, s"), &format!("{seconds:.2}"));
        Ok(done)
    }
}
