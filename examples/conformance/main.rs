//! Is an echo server exact? Plays every way to use, and to misuse, one against it.
//!
//! ```sh
//! cargo run --release         # or any other echo server
//! cargo run --release --example conformance -- 127.0.0.1:7007
//! ```
//!
//! With several servers it prints a column for each, and a name may go before an address:
//!
//! ```sh
//! cargo run --release --example conformance -- echod=127.0.0.1:7007 socat=127.0.0.1:7008
//! ```
//!
//! What comes back is checked byte for byte. The exit code is 0 if everything passed, 1 if
//! anything failed, 2 if the command line is wrong. README.md beside this file has what it says
//! of the echo servers in common use.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod cases;
mod client;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use clap::Parser;
use comfy_table::{Table, presets};
use fastrand::Rng;
use indicatif::{ProgressBar, ProgressStyle};

use cases::{CASES, Case};

#[derive(Parser)]
#[command(about = "Plays every way to use an echo server against it")]
struct Cli {
    /// The servers, as HOST:PORT or NAME=HOST:PORT
    #[arg(required = true, value_name = "[NAME=]HOST:PORT", value_parser = server)]
    servers: Vec<Server>,

    /// Play only the cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,

    /// Draw the contents from this seed
    #[arg(long, default_value_t = 862)]
    seed: u64,
}

#[derive(Clone)]
struct Server {
    name: String,
    addr: SocketAddr,
}

fn server(text: &str) -> Result<Server, String> {
    let (name, addr) = text.split_once('=').unwrap_or((text, text));
    let mut addrs = addr.to_socket_addrs().map_err(|error| error.to_string())?;
    Ok(Server {
        name: name.to_owned(),
        addr: addrs.next().ok_or("the name has no address")?,
    })
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let cases: Vec<_> = CASES
        .iter()
        .filter(|case| case.name.contains(&cli.only))
        .collect();
    if cases.is_empty() {
        eprintln!("no case has {:?} in its name", cli.only);
        return ExitCode::from(2);
    }
    let progress = ProgressBar::new((cases.len() * cli.servers.len()) as u64)
        .with_style(style("{pos}/{len} {wide_bar} {msg}"));
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["case"].into_iter().chain(names(&cli.servers)));
    let mut passed = 0;
    for case in &cases {
        let mut row = vec![case.name.to_owned()];
        for server in &cli.servers {
            progress.set_message(format!("{}: {}", server.name, case.name));
            let verdict = play(case, server, cli.seed);
            passed += u64::from(verdict.is_ok());
            row.push(verdict.map_or_else(|failure| failure, |()| "pass".to_owned()));
            progress.inc(1);
        }
        table.add_row(row);
    }
    let failed = progress.position() - passed;
    progress.finish_and_clear();
    println!("{table}\n\n{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn play(case: &Case, server: &Server, seed: u64) -> Result<(), String> {
    // Every server gets the same bytes.
    let mut rng = Rng::with_seed(seed);
    (case.play)(server.addr, &mut rng).map_err(|failure| format!("FAIL: {failure}"))
}

fn names(servers: &[Server]) -> impl Iterator<Item = &str> {
    servers.iter().map(|server| server.name.as_str())
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
