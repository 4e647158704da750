//! What does an echo server make of a machine, and what do others make of it?
//!
//! ```sh
//! cargo bench --bench peers
//! cargo bench --bench peers -- --peer echod,tokio --work pingpong-128,connect
//! cargo bench --bench peers -- --addr 127.0.0.1:7007 --work pingpong-128-50
//! ```
//!
//! It starts each server in turn, several rounds, on the same work, compares every byte that comes
//! back, and prints medians, with the ratio of the first server's rate to each other's. A server
//! that is not installed is left out, one that can't do a work has no figures there, and both are
//! named. Then the exit code is 1 if it was asked for by name, or if there are no figures at all.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod chart;
mod cli;
mod descriptors;
mod failure;
mod figures;
mod load;
mod machine;
mod peers;
mod readme;
mod report;
mod results;
mod rounds;
mod server;
mod stats;
mod usage;
mod works;

use std::path::Path;
use std::process::{self, ExitCode};

use clap::Parser;

use cli::Cli;
use failure::{Failure, Result};
use peers::PEERS;
use rounds::{Subject, measure};
use usage::Meter;
use works::Work;

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
    for peer in PEERS {
        println!("  {:14}{}", peer.name, peer.what);
    }
    println!("works, of which pingpong, connect and bulk take other numbers, too:");
    for work in Work::all() {
        println!("  {:20}{}", work.to_string(), work.what());
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
    let mut works = cli.works();
    works.retain(|&work| match descriptors::check(work) {
        Ok(()) => true,
        Err(why) => {
            println!("left out: {why}");
            false
        }
    });
    if works.is_empty() || subjects.is_empty() {
        return Err(Failure::new("nothing is left to be measured"));
    }
    let results = measure(&subjects, &works, cli.rounds(), cli.time());
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
        runs if cli.has_named_peers() => Err(Failure::new(format!("{runs} of the works failed"))),
        _ if results.is_empty() => Err(Failure::new("no server could do any of it")),
        _ => Ok(()),
    }
}

/// Builds what has to be built, and says which versions there are.
fn prepare(cli: &Cli) -> Result<Vec<Subject>> {
    let workshop = peers::workshop()?;
    let mut subjects = Vec::new();
    for peer in cli.peers() {
        match peer.prepare(&workshop) {
            Ok(version) => {
                println!("{}: {version}", peer.name);
                subjects.push(Subject::Peer(peer, workshop.clone()));
            }
            Err(failure) if cli.has_named_peers() => {
                return Err(Failure::new(format!("{}: {failure}", peer.name)));
            }
            Err(failure) => println!("{}: left out: {failure}", peer.name),
        }
    }
    Ok(subjects)
}
