//! Runs 14 normal and abusive client behaviours against any echo server.
//!
//! ```sh
//! cargo run --release         # or any other echo server
//! cargo run --release --example conformance -- 127.0.0.1:7007
//! ```
//!
//! With several servers, the table has a column for each. A name may stand before an address:
//!
//! ```sh
//! cargo run --release --example conformance -- echod=127.0.0.1:7007 socat=127.0.0.1:7008
//! ```
//!
//! Every byte that comes back is checked. The exit code is 0 if everything passed, 1 if anything failed, and
//! 2 if the command line is wrong. README.md beside this file has the results of common echo servers.

mod cases;
mod client;
#[path = "../support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::process::{ExitCode, exit};
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::SignedDuration;

use cases::{CASES, Case};
use support::{complain, connect, print, printed, resolve, within};

#[derive(Parser)]
#[command(
    about = "Runs normal and abusive client behaviours against echo servers, and prints a table"
)]
struct Cli {
    /// The servers, as HOST:PORT or NAME=HOST:PORT
    #[arg(required = true, value_name = "[NAME=]HOST:PORT", value_parser = server)]
    servers: Vec<Server>,

    /// Run only the cases whose names contain this
    #[arg(long, default_value = "")]
    only: String,

    /// Seed of the random contents
    #[arg(long, default_value_t = 862)]
    seed: u64,

    /// Time limit for each case, such as 30s or 10m
    #[arg(long, value_name = "DUR", default_value = "2m")]
    limit: SignedDuration,
}

#[derive(Clone)]
struct Server {
    name: String,
    addrs: Vec<SocketAddr>,
}

fn server(text: &str) -> Result<Server, String> {
    let (name, addr) = text.split_once('=').unwrap_or((text, text));
    let addrs = resolve(addr).map_err(|error| error.to_string())?;
    let name = name.to_owned();
    Ok(Server { name, addrs })
}

impl Server {
    /// Returns the first address that accepts a connection. All cases use that address.
    fn find(&self) -> Result<SocketAddr, String> {
        connect(&self.addrs)
            .and_then(|stream| stream.peer_addr())
            .map_err(|error| format!("FAIL: connect: {error}"))
    }
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| {
        printed(error.print());
        exit(error.exit_code())
    });
    let Ok(limit) = Duration::try_from(cli.limit) else {
        complain("--limit must not be negative");
        return ExitCode::from(2);
    };
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&cli.only))
        .collect();
    if cases.is_empty() {
        complain(format_args!("no case has {:?} in its name", cli.only));
        return ExitCode::from(2);
    }
    let progress = ProgressBar::new((cases.len() * cli.servers.len()) as u64)
        .with_style(style("{pos}/{len} {wide_bar} {msg}"));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["case"].into_iter().chain(names(&cli.servers)));
    let found: Vec<_> = cli.servers.iter().map(Server::find).collect();
    let mut passed = 0;
    for case in &cases {
        let mut row = vec![case.name.to_owned()];
        for (server, found) in cli.servers.iter().zip(&found) {
            progress.set_message(format!("{}: {}", server.name, case.name));
            let verdict = found
                .clone()
                .and_then(|addr| play(case, addr, cli.seed, limit));
            passed += u64::from(verdict.is_ok());
            row.push(verdict.map_or_else(|failure| failure, |()| "pass".to_owned()));
            progress.inc(1);
        }
        table.add_row(row);
    }
    let failed = progress.position() - passed;
    progress.finish_and_clear();
    print(format_args!("{table}\n\n{passed} passed, {failed} failed"));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(case: &Case, server: SocketAddr, seed: u64, limit: Duration) -> Result<(), String> {
    let play = case.play;
    // Every server gets the same bytes.
    let mut rng = Rng::with_seed(seed);
    // Each read has a timeout of its own, but a server that sends a byte now and then never exceeds it.
    match within(limit, move || play(server, &mut rng)) {
        Some(Ok(())) => Ok(()),
        Some(Err(failure)) => Err(format!("FAIL: {failure}")),
        None => Err(format!("FAIL: not done within {limit:?}")),
    }
}

fn names(servers: &[Server]) -> impl Iterator<Item = &str> {
    servers.iter().map(|server| server.name.as_str())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
