//! `echod`, a TCP echo daemon: the library's [`EchoHandler`](socketserver::EchoHandler), and its
//! other services, with a command line, a log and signals.

mod address;
mod check;
mod cli;
mod generate;
mod help;
mod inherited;
mod limits;
mod logging;
mod run;
mod service;
mod systemd;

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::iter::successors;
use std::process::{self, ExitCode};
use std::sync::Arc;

use clap::Parser;
use socketserver::TcpServer;

use crate::check::Failure;
use crate::cli::Cli;
use crate::inherited::Inherited;
use crate::run::Handles;
use crate::service::Service;

fn main() -> ExitCode {
    match start(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            // With standard error closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "echod: {}", reason(&*error));
            error
                .downcast_ref::<Failure>()
                .map_or(ExitCode::FAILURE, Failure::exit_code)
        }
    }
}

/// Returns an error with all that led to it, on one line.
fn reason(error: &dyn Error) -> String {
    let chain: Vec<_> = successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    chain.join(": ")
}

fn start(cli: &Cli) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(part) = cli.generate {
        generate::print(part).map_err(|error| cannot_print(&error))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(target) = &cli.check {
        let outcome = check::check(target, cli.check_timeout)?;
        writeln!(io::stdout(), "{outcome}").map_err(|error| cannot_print(&error))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before there is a second thread.
    let inherited = inherited::take();
    let handles = Arc::new(Handles::default());
    stop_at_signals(Arc::clone(&handles))?;
    let log = logging::start(cli.log_level(), cli.log_format)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    match serve(cli, inherited, &handles) {
        Ok(0) => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::FAILURE),
        Err(error) => {
            let reason = reason(&*error);
            systemd::failed(&reason);
            log.last_words(&reason);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn cannot_print(error: &io::Error) -> String {
    format!("cannot print to standard output: {error}")
}

/// Lets SIGINT, SIGTERM and SIGHUP stop the servers, and a second one cut their connections.
///
/// The daemon does this early, so that there is no moment in which a signal has another effect: as
/// long as nothing is served, there is nothing to end.
fn stop_at_signals(handles: Arc<Handles>) -> Result<(), Box<dyn Error>> {
    let mut stopping = false;
    ctrlc::set_handler(move || {
        if handles.all().is_empty() {
            process::exit(0);
        } else if stopping {
            handles.shutdown_now();
        } else {
            stopping = true;
            handles.shutdown();
        }
    })?;
    Ok(())
}

/// Returns how many connections had to be cut.
fn serve(
    cli: &Cli,
    inherited: Result<Inherited, String>,
    handles: &Arc<Handles>,
) -> Result<u64, Box<dyn Error>> {
    limits::raise_descriptors();
    // So that no file system that it was started from is kept busy by it.
    env::set_current_dir("/").map_err(|error| format!("cannot change to /: {error}"))?;
    let inherited = inherited?;
    let is_for_one = matches!(inherited, Inherited::Connection(_));
    let servers = run::make(cli, inherited)?;
    // Before anybody is told of the addresses: from now on a signal has something to end.
    handles.set(&servers, cli.drain_timeout);
    if !is_for_one {
        let services: Vec<_> = servers.iter().map(|(service, _)| *service).collect();
        limits::check(cli.max_connections.get(), &services);
    }
    if cli.print_addr {
        print_and_close(&servers).map_err(|error| cannot_print(&error))?;
    }
    systemd::ready(handles).map_err(|error| format!("cannot start a thread: {error}"))?;
    run::serve(servers, handles)
}

/// Writes the addresses for a script to read, and ends the script's input: standard output is
/// replaced by the null device, so that nothing that is opened later takes its number.
fn print_and_close(servers: &[(Service, TcpServer)]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for (service, server) in servers {
        for addr in server.local_addrs() {
            match service {
                Service::Echo => writeln!(stdout, "{addr}")?,
                _ => writeln!(stdout, "{service}={addr}")?,
            }
        }
    }
    stdout.flush()?;
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}
