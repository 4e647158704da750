//! Compares `echod` with other echo servers, the contenders.
//!
//! ```sh
//! cargo bench --bench peers
//! cargo bench --bench peers -- --contender echod,tokio --workload pingpong-128,connect
//! cargo bench --bench peers -- --addr 127.0.0.1:7007 --workload pingpong-128-50
//! ```
//!
//! The benchmark starts each server in turn, in several rounds, with the same workloads. It compares every
//! byte that comes back, and prints medians. It also prints the ratio of the first server's rate to the rate
//! of each other server.
//!
//! A server that is not installed is left out. A server that fails a workload has no figures there. The
//! benchmark names both. The exit code is then 1 if you named the server, or if there are no figures at all.

#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod chart;
mod cli;
mod contenders;
mod descriptors;
mod failure;
mod figures;
mod load;
mod machine;
mod readme;
mod report;
mod results;
mod rounds;
mod server;
mod stats;
mod usage;
mod workloads;

use std::path::Path;
use std::process::{self, ExitCode};

use clap::Parser;

use cli::Cli;
use contenders::CONTENDERS;
use failure::{Failure, Result};
use rounds::{Subject, measure};
use usage::Meter;
use workloads::Workload;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        list();
        return ExitCode::SUCCESS;
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("peers: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("servers:");
    for contender in CONTENDERS {
        println!("  {:14}{}", contender.name, contender.what);
    }
    println!("workloads (pingpong, connect and bulk also accept other numbers):");
    for workload in Workload::all() {
        println!("  {:20}{}", workload.to_string(), workload.what());
    }
}

fn run(cli: &Cli) -> Result {
    // Each server is in a process group of its own, so a Ctrl-C at the terminal does not reach it.
    let at_signal = || {
        server::end_running();
        process::exit(130);
    };
    ctrlc::set_handler(at_signal)
        .map_err(|error| Failure::new(format!("cannot handle signals: {error}")))?;
    descriptors::raise_limit();
    let machine = machine::describe();
    println!("machine: {machine}");
    let subjects = match cli.addr {
        Some(addr) => vec![Subject::Running(addr, cli.pid.map(Meter::new))],
        None => prepare(cli)?,
    };
    let mut workloads = cli.workloads();
    workloads.retain(|&workload| match descriptors::check(workload) {
        Ok(()) => true,
        Err(why) => {
            println!("left out: {why}");
            false
        }
    });
    if workloads.is_empty() || subjects.is_empty() {
        return Err(Failure::new("no server or no workload is left to measure"));
    }
    let results = measure(&subjects, &workloads, cli.rounds(), cli.time());
    println!("\n{}", report::tables(&results));
    if cli.save {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        chart::draw(&results, &machine, &project.join("benches/peers.svg"))?;
        let (rounds, seconds) = (cli.rounds(), cli.time().as_secs_f64());
        let how = format!("{machine}; medians of `--rounds {rounds} --seconds {seconds}`");
        readme::update(&project.join("benches/peers/README.md"), &results, &how)?;
    }
    match results.failures() {
        0 => Ok(()),
        runs if cli.has_named_contenders() => {
            Err(Failure::new(format!("{runs} of the workloads failed")))
        }
        _ if results.is_empty() => Err(Failure::new("no server completed any workload")),
        _ => Ok(()),
    }
}

/// Builds the contenders, and prints their versions.
fn prepare(cli: &Cli) -> Result<Vec<Subject>> {
    let build_dir = contenders::build_dir()?;
    let mut subjects = Vec::new();
    for contender in cli.contenders() {
        match contender.prepare(&build_dir) {
            Ok(version) => {
                println!("{}: {version}", contender.name);
                subjects.push(Subject::Contender(contender, build_dir.clone()));
            }
            Err(failure) if cli.has_named_contenders() => {
                return Err(Failure::new(format!("{}: {failure}", contender.name)));
            }
            Err(failure) => println!("{}: left out: {failure}", contender.name),
        }
    }
    Ok(subjects)
}
