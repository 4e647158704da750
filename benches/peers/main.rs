//! What does an echo server make of a machine, and what do others make of it?
//!
//! ```sh
//! cargo bench --bench peers
//! cargo bench --bench peers -- --contender echod,tokio --workload pingpong-128,connect
//! cargo bench --bench peers -- --addr 127.0.0.1:7007 --workload pingpong-128-50
//! ```
//!
//! It starts each server in turn, several rounds, on the same workload, compares every byte that comes
//! back, and prints medians, with the ratio of the first server's rate to each other's. A server
//! that is not installed is left out, one that can't do a workload has no figures there, and both are
//! named. Then the exit code is 1 if it was asked for by name, or if there are no figures at all.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

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
    println!("workloads, of which pingpong, connect and bulk take other numbers, too:");
    for workload in Workload::all() {
        println!("  {:20}{}", workload.to_string(), workload.what());
    }
}

fn run(cli: &Cli) -> Result {
    // The servers are in groups of their own, which a Ctrl-C at the terminal does not reach.
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
        return Err(Failure::new("nothing is left to be measured"));
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
        _ if results.is_empty() => Err(Failure::new("no server could do any of it")),
        _ => Ok(()),
    }
}

/// Builds what has to be built, and says which versions there are.
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
