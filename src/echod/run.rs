//! The servers of this process: made from the command line and from what was inherited, then
//! served together. A server that ends takes the others with it.

use std::error::Error;
use std::io;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};
use std::{panic, thread};

use socketserver::{Builder, ServerHandle, TcpServer, Totals};

use crate::banner::Banner;
use crate::cli::Cli;
use crate::inherited::Inherited;
use crate::listeners;
use crate::service::Service;
use crate::systemd;

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
    let listeners = listeners::bind(cli, passed)?;
    // One alone needs no name in the log.
    let several = listeners.len() > 1;
    let server = |(service, listeners): (Service, Vec<TcpListener>)| {
        let most = service.max_connections(cli.max_connections.get());
        let mut builder = builder(cli).max_connections(most);
        if several {
            builder = builder.name(service.to_string());
        }
        Ok((service, builder.from_listeners(listeners)?))
    };
    listeners.into_iter().map(server).collect()
}

pub(crate) fn builder(cli: &Cli) -> Builder {
    TcpServer::builder()
        .max_connections(cli.max_connections.get())
        .at_limit(cli.at_limit.into())
        .max_per_source(cli.max_per_source())
        .proxy_protocol(cli.proxy_protocol.iter().copied())
        .max_lifetime(cli.max_lifetime())
        .idle_timeout(cli.idle_timeout())
        .write_timeout(cli.write_timeout())
        .drain_timeout(cli.drain_timeout)
        .busy_poll(cli.busy_poll)
        .stack_size(STACK)
        .reactors(cli.reactors.map(NonZeroUsize::get))
        .backlog(cli.backlog)
        .reuse_port(cli.reuse_port)
        .socket_buffers(cli.socket_buffers())
}

/// The handles of all servers, once they listen. Empty until then.
#[derive(Debug, Default)]
pub(crate) struct Handles(OnceLock<Known>);

#[derive(Debug)]
struct Known {
    servers: Vec<(Service, ServerHandle)>,
    drain: Duration,
    since: SystemTime,
    stopping: AtomicBool,
}

impl Handles {
    /// Makes the servers known: from now on a signal has something to stop. `drain` is how long each
    /// server may take to drain.
    pub(crate) fn set(&self, servers: &[(Service, TcpServer)], drain: Duration) {
        let handle = |(service, server): &(Service, TcpServer)| (*service, server.handle());
        self.0.get_or_init(|| Known {
            servers: servers.iter().map(handle).collect(),
            drain,
            since: SystemTime::now(),
            stopping: AtomicBool::new(false),
        });
    }

    pub(crate) fn all(&self) -> &[(Service, ServerHandle)] {
        self.0.get().map_or(&[], |known| &known.servers)
    }

    /// Returns when the servers were made, if they are.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        self.0.get().map(|known| known.since)
    }

    /// Returns whether new clients should come: the servers listen, and no stop was requested.
    pub(crate) fn is_ready(&self) -> bool {
        let known = self.0.get();
        known.is_some_and(|known| !known.stopping.load(Ordering::Relaxed))
    }

    /// Stops all servers after a delay, in which they go on to accept. The service manager is told of the
    /// stop at once.
    ///
    /// # Errors
    ///
    /// The thread that waits can't be started.
    pub(crate) fn shutdown_after(self: &Arc<Self>, delay: Duration) -> io::Result<()> {
        let all = Arc::clone(self);
        thread::Builder::new()
            .name("delay".to_owned())
            .spawn(move || {
                thread::sleep(delay);
                all.shutdown();
            })?;
        if let Some(known) = self.0.get() {
            known.stopping.store(true, Ordering::Relaxed);
            systemd::stopping(delay.saturating_add(known.drain));
        }
        log::info!("stopping in {delay:?}; until then new clients are served");
        Ok(())
    }

    pub(crate) fn shutdown(&self) {
        if let Some(known) = self.0.get() {
            known.stopping.store(true, Ordering::Relaxed);
            self.all().iter().for_each(|(_, server)| server.shutdown());
            systemd::stopping(known.drain);
        }
    }

    pub(crate) fn shutdown_now(&self) {
        let servers = self.all().iter();
        servers.for_each(|(_, server)| server.shutdown_now());
    }
}

/// Stops all servers when it is dropped: also where one has panicked.
struct StopsAll<'h>(&'h Handles);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Serves until all have stopped, each on a thread of its own but the first. Calls `announce` once
/// nothing but that can fail any more. Returns how many connections had to be aborted.
pub(crate) fn serve(
    servers: Vec<(Service, TcpServer)>,
    banner: Option<&Banner>,
    handles: &Arc<Handles>,
    announce: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let run = |(service, server): (Service, TcpServer)| {
        let _others = StopsAll(handles);
        service.serve(server, banner, handles)
    };
    let mut servers = servers.into_iter();
    let first = servers.next();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for other in servers {
            let spawned = thread::Builder::new()
                .name("listener".to_owned())
                .spawn_scoped(scope, move || run(other))
                .inspect_err(|_| handles.shutdown())
                .map_err(|error| format!("cannot start a thread for a service: {error}"))?;
            threads.push(spawned);
        }
        announce().inspect_err(|_| handles.shutdown())?;
        let mut outcomes: Vec<_> = first.map(run).into_iter().collect();
        for thread in threads {
            outcomes.push(
                thread
                    .join()
                    .unwrap_or_else(|cause| panic::resume_unwind(cause)),
            );
        }
        let totals: Result<Vec<_>, _> = outcomes.into_iter().collect();
        Ok(totals?.iter().map(Totals::aborted).sum())
    })
}
