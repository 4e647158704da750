//! Makes the servers that the command line, and what was inherited, ask for.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;

use clap::CommandFactory;
use clap::error::ErrorKind;
use socketserver::{Builder, TcpServer};

use crate::cli::Cli;
use crate::inherited::Inherited;
use crate::service::Service;

/// The echo and the log need some 10 KiB. The rest is for a panic's backtrace.
const STACK: usize = 128 * 1024;

/// Makes a server of each service, with limits and counts of its own; of a connection, one server.
pub(crate) fn make(
    cli: &Cli,
    inherited: Inherited,
) -> Result<Vec<(Service, TcpServer)>, Box<dyn Error>> {
    let passed = match inherited {
        Inherited::Listeners(passed) => passed,
        Inherited::Connection(stream) => {
            return match builder(cli).from_stream(stream) {
                Ok(server) => Ok(vec![(Service::Echo, server)]),
                // It has gone again: there is nothing to do.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        }
    };
    let listeners = listen(cli, passed)?;
    // One alone needs no name in the log.
    let several = listeners.len() > 1;
    let server = |(service, listeners): (Service, Vec<TcpListener>)| {
        let mut builder = builder(cli);
        if several {
            builder = builder.name(service.to_string());
        }
        Ok((service, builder.from_listeners(listeners)?))
    };
    listeners.into_iter().map(server).collect()
}

fn builder(cli: &Cli) -> Builder {
    TcpServer::builder()
        .max_connections(cli.max_connections.get())
        .at_limit(cli.at_limit.into())
        .max_per_source(cli.max_per_source.map(NonZeroUsize::get))
        .max_lifetime(cli.max_lifetime)
        .idle_timeout(cli.idle_timeout)
        .write_timeout(cli.write_timeout)
        .drain_timeout(cli.drain_timeout)
        .spin(cli.spin)
        .stack_size(STACK)
        .reactors(cli.reactors.map(NonZeroUsize::get))
        .backlog(cli.backlog)
}

/// Binds everything that was asked for, or nothing. What was passed takes the place of `--listen`.
fn listen(
    cli: &Cli,
    passed: Vec<(Service, TcpListener)>,
) -> Result<BTreeMap<Service, Vec<TcpListener>>, Box<dyn Error>> {
    let echo: &[_] = if passed.is_empty() { &cli.listen } else { &[] };
    let echo = echo.iter().map(|addr| (Service::Echo, addr));
    let others = cli.service.iter().map(|(service, addr)| (*service, addr));

    let mut listeners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (service, listener) in passed {
        listeners.entry(service).or_default().push(listener);
    }
    let mut seen: Vec<SocketAddr> = Vec::new();
    for (service, addr) in echo.chain(others) {
        let resolved = addr
            .resolve()
            .map_err(|error| format!("cannot resolve {addr}: {error}"))?;
        // With port 0 the system gives each a port of its own.
        if let Some(twice) = resolved.iter().find(|a| a.port() != 0 && seen.contains(a)) {
            let message = format!("{service} at {addr}: {twice} is listened on already");
            Cli::command()
                .error(ErrorKind::ArgumentConflict, message)
                .exit();
        }
        let listening = builder(cli).listen(&resolved[..])?;
        listeners.entry(service).or_default().extend(listening);
        seen.extend(resolved);
    }
    Ok(listeners)
}
