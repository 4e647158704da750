//! `echod`, a TCP echo daemon: the library's [`EchoHandler`] with a command line, a log and
//! signals.

mod address;
mod check;
mod cli;
mod descriptors;
mod help;
mod inherited;
mod logging;
mod serving;
mod systemd;

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::iter::successors;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::process::{self, ExitCode};
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use socketserver::{Builder, TcpServer};

use crate::check::Failure;
use crate::cli::Cli;
use crate::inherited::Inherited;
use crate::serving::{Handles, Service};

fn main() -> ExitCode {
    // Before there is a second thread.
    let inherited = inherited::take();
    match run(&Cli::parse(), inherited) {
        Ok(code) => code,
        Err(error) => {
            let chain: Vec<_> = successors(Some(&*error as &dyn Error), |&error| error.source())
                .map(ToString::to_string)
                .collect();
            // With standard error closed there is nobody to tell.
            let _ = writeln!(io::stderr(), "echod: {}", chain.join(": "));
            error
                .downcast_ref::<Failure>()
                .map_or(ExitCode::FAILURE, Failure::exit_code)
        }
    }
}

fn run(cli: &Cli, inherited: Result<Inherited, String>) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(target) = &cli.check {
        let outcome = check::check(target, cli.check_timeout)?;
        writeln!(io::stdout(), "{outcome}").map_err(|error| cannot_print(&error))?;
        return Ok(ExitCode::SUCCESS);
    }
    let handles = Arc::new(Handles::default());
    stop_at_signals(Arc::clone(&handles))?;
    match serve(cli, inherited?, &handles)? {
        0 => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
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

/// The echo and the log need some 10 KiB. The rest is for a panic's backtrace.
const STACK: usize = 128 * 1024;

/// Returns how many connections had to be cut.
fn serve(cli: &Cli, inherited: Inherited, handles: &Arc<Handles>) -> Result<u64, Box<dyn Error>> {
    let _log = logging::start(cli.log_level(), cli.log_format)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    descriptors::raise_limit();
    // So that no file system that it was started from is kept busy by it.
    env::set_current_dir("/").map_err(|error| format!("cannot change to /: {error}"))?;
    let servers = vec![(Service::Echo, echo(cli, inherited)?)];
    // Before anybody is told of the addresses: from now on a signal has something to end.
    handles.set(&servers, cli.drain_timeout);
    descriptors::check_limit(cli.max_connections.get());
    if cli.print_addr {
        let addrs = servers.iter().flat_map(|(_, server)| server.local_addrs());
        print_and_close(addrs).map_err(|error| cannot_print(&error))?;
    }
    systemd::ready(handles)
        .map_err(|error| format!("cannot notify the service manager: {error}"))?;
    serving::serve(servers, handles)
}

/// Makes the server of the echo. What was inherited takes the place of `--listen`.
fn echo(cli: &Cli, inherited: Inherited) -> Result<TcpServer, Box<dyn Error>> {
    let builder = TcpServer::builder()
        .max_connections(cli.max_connections.get())
        .at_limit(cli.at_limit.into())
        .max_per_source(cli.max_per_source.map(NonZeroUsize::get))
        .max_lifetime(cli.max_lifetime)
        .idle_timeout(cli.idle_timeout)
        .write_timeout(cli.write_timeout)
        .drain_timeout(cli.drain_timeout)
        .spin(cli.spin)
        .stack_size(STACK)
        .backlog(cli.backlog);
    let server = match inherited {
        Inherited::Connection(stream) => builder.from_stream(stream),
        Inherited::Listeners(passed) if passed.is_empty() => {
            let listeners = listen(cli, &builder)?;
            builder.from_listeners(listeners)
        }
        Inherited::Listeners(passed) => {
            builder.from_listeners(passed.into_iter().map(|(_, listener)| listener))
        }
    };
    Ok(server?)
}

/// Binds everything that was asked for, or nothing.
fn listen(cli: &Cli, builder: &Builder) -> Result<Vec<TcpListener>, Box<dyn Error>> {
    let mut seen: Vec<SocketAddr> = Vec::new();
    let mut listeners = Vec::new();
    for addr in &cli.listen {
        let resolved = addr
            .resolve()
            .map_err(|error| format!("cannot resolve {addr}: {error}"))?;
        // With port 0 the system gives each a port of its own.
        if let Some(twice) = resolved.iter().find(|a| a.port() != 0 && seen.contains(a)) {
            let message = format!("--listen {addr}: {twice} is listened on already");
            Cli::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        listeners.extend(builder.listen(&resolved[..])?);
        seen.extend(resolved);
    }
    Ok(listeners)
}

/// Writes the addresses for a script to read, and ends the script's input: standard output is
/// replaced by the null device, so that nothing that is opened later takes its number.
fn print_and_close<'s>(addrs: impl Iterator<Item = &'s SocketAddr>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    for addr in addrs {
        writeln!(stdout, "{addr}")?;
    }
    stdout.flush()?;
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(null)?;
    Ok(())
}
