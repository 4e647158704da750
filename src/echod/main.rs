//! `echod`, a TCP echo daemon. It serves the library's [`EchoHandler`](socketserver::EchoHandler) and
//! other small services, and adds a command line, a log and signals.

mod address;
mod banner;
mod cli;
mod generate;
mod help;
mod http;
mod inherited;
mod limits;
mod listeners;
mod logging;
mod metrics;
mod probe;
mod reuse_port;
mod run;
mod service;
mod signals;
mod systat;
mod systemd;
mod warnings;

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::iter::successors;
use std::process::ExitCode;
use std::sync::Arc;

use log::LevelFilter;
use socketserver::TcpServer;

use crate::cli::commands::Command;
use crate::cli::{Cli, usage};
use crate::inherited::Inherited;
use crate::logging::Log;
use crate::probe::Failure;
use crate::run::Handles;
use crate::service::Service;

/// The exit code if the stop aborted connections.
const ABORTED: u8 = 8;

fn main() -> ExitCode {
    match Cli::read() {
        Ok(cli) => match &cli.command {
            None => daemon(&cli),
            Some(Command::Probe(options)) => command(probe::run(options)),
            Some(Command::Generate { artifact }) => print(|| generate::print(*artifact)),
        },
        // `--help` or `--version`: clap returns their text as an error for standard output.
        Err(answer) if !answer.use_stderr() => print(|| answer.print()),
        // A subcommand has neither a log nor a service manager, and reads no variables.
        Err(error) if cli::is_subcommand() => error.exit(),
        Err(error) => match logging::start(LevelFilter::Error, cli::log_format()) {
            Ok(log) => fail(log, &error),
            Err(_) => error.exit(),
        },
    }
}

/// Turns the result of a subcommand into the exit code, and prints an error to standard error.
fn command(result: Result<u8, Box<dyn Error>>) -> ExitCode {
    ExitCode::from(result.unwrap_or_else(|error| {
        // Ignore a failure: standard error may be closed, and there is no other place for the message.
        let _ = writeln!(io::stderr(), "echod: {}", reason(&*error));
        error
            .downcast_ref::<Failure>()
            .map_or(1, Failure::exit_code)
    }))
}

/// Prints to standard output, and returns the exit code.
fn print(text: impl FnOnce() -> io::Result<()>) -> ExitCode {
    command(text().map(|()| 0).map_err(cannot_print))
}

fn daemon(cli: &Cli) -> ExitCode {
    // `take` changes the environment, which is safe only while this process has one thread.
    let inherited = inherited::take();
    let handles = Arc::new(Handles::default());
    let signals = signals::handle(&handles, cli.shutdown_delay);
    let log = match logging::start(cli.log_level(), cli.log_format) {
        Ok(log) => log,
        Err(error) => {
            let error = signals
                .err()
                .unwrap_or_else(|| format!("cannot start the thread that writes the log: {error}"));
            systemd::failed(&error);
            return command(Err(error.into()));
        }
    };
    match signals
        .map_err(Into::into)
        .and_then(|()| serve(cli, inherited, &handles))
    {
        Ok(aborted) => {
            systemd::finish();
            match aborted {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::from(ABORTED),
            }
        }
        Err(error) => fail(log, &*error),
    }
}

/// Reports a fatal error to the log and to the service manager, and returns the exit code.
fn fail(log: Log, error: &(dyn Error + 'static)) -> ExitCode {
    let usage = error.downcast_ref::<clap::Error>();
    let reason = usage.map_or_else(|| reason(error), usage::on_one_line);
    systemd::failed(&reason);
    match usage {
        // clap's own message has colours, and a hint on how to go on.
        Some(usage) if log.is_plain() => {
            let _ = usage.print();
        }
        _ => log.fatal(&reason),
    }
    systemd::finish();
    usage.map_or(ExitCode::FAILURE, |_| ExitCode::from(usage::EXIT_CODE))
}

/// Returns an error and its sources as one line, separated by colons.
fn reason(error: &dyn Error) -> String {
    let chain: Vec<_> = successors(Some(error), |&error| error.source())
        .map(ToString::to_string)
        .collect();
    chain.join(": ")
}

#[allow(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn cannot_print(error: io::Error) -> Box<dyn Error> {
    format!("cannot print to standard output: {error}").into()
}

/// Serves until the servers have stopped, and returns how many connections the stop aborted.
fn serve(
    cli: &Cli,
    inherited: Result<Inherited, String>,
    handles: &Arc<Handles>,
) -> Result<u64, Box<dyn Error>> {
    limits::raise_descriptors();
    // A file system that holds the working directory of a process can't be unmounted.
    env::set_current_dir("/")
        .map_err(|error| format!("cannot change the working directory to /: {error}"))?;
    let inherited = inherited?;
    inherited::warn_about_stdin();
    warnings::log_all(cli, &inherited);
    let has_one_connection = matches!(inherited, Inherited::Connection(_));
    let servers = run::make(cli, inherited)?;
    // Signals stop these servers from now on. Announcing the addresses first would be a race: a signal in
    // between would end the process without a shutdown.
    handles.set(&servers, cli.drain_timeout);
    if !has_one_connection {
        let services: Vec<_> = servers.iter().map(|(service, _)| *service).collect();
        limits::check(cli, &services);
    }
    let addrs = addrs(&servers);
    run::serve(servers, cli.banner.as_ref(), handles, || {
        systemd::ready(handles).map_err(|error| {
            format!("cannot start the thread that notifies the service manager: {error}")
        })?;
        if cli.print_addr {
            print_and_close(&addrs).map_err(cannot_print)?;
        }
        Ok(())
    })
}

/// Returns the listening addresses, one a line. The name of the service and `=` come before each address,
/// except those of the echo.
fn addrs(servers: &[(Service, TcpServer)]) -> String {
    let mut addrs = String::new();
    for (service, server) in servers {
        for addr in server.local_addrs() {
            let line = match service {
                Service::Echo => format!("{addr}\n"),
                _ => format!("{service}={addr}\n"),
            };
            addrs.push_str(&line);
        }
    }
    addrs
}

/// Prints the addresses, then closes standard output, so that a script that reads the addresses sees the
/// end of file.
///
/// The null device takes the place of standard output. Otherwise the next file that this process opens
/// would get descriptor 1.
fn print_and_close(addrs: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(addrs.as_bytes())?;
    stdout.flush()?;
    let null = File::options().write(true).open("/dev/null");
    let null = null
        .map_err(|error| io::Error::new(error.kind(), format!("cannot open /dev/null: {error}")))?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}
