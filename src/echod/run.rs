//! The servers of this process: makes them from the command line and the inherited sockets, then runs them
//! together. When a server ends, it stops the others.

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

/// Stack size of a connection's thread. The echo and the log need about 10 KiB; a panic's backtrace needs the
/// rest.
const STACK: usize = 128 * 1024;

/// Makes a server for each service, with its own limits and counters, or one for an inherited connection.
pub(crate) fn make(
    cli: &Cli,
    inherited: Inherited,
) -> Result<Vec<(Service, TcpServer)>, Box<dyn Error>> {
    let passed = match inherited {
        Inherited::Listeners(passed) => passed,
        Inherited::Connection(stream) => {
            return match builder(cli).from_stream(stream) {
                Ok(server) => Ok(vec![(Service::Echo, server)]),
                // The client has closed already, so there is nothing to serve.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        }
    };
    let listeners = listeners::bind(cli, passed)?;
    // With one service, the log lines need no service name.
    let several = listeners.len() > 1;
    let server = |(service, listeners): (Service, Vec<TcpListener>)| {
        let limit = service.max_connections(cli.max_connections.get());
        let mut builder = builder(cli).max_connections(limit);
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

/// The handles of all servers. Empty until the servers listen.
#[derive(Debug, Default)]
pub(crate) struct Handles(OnceLock<Servers>);

#[derive(Debug)]
struct Servers {
    handles: Vec<(Service, ServerHandle)>,
    drain: Duration,
    since: SystemTime,
    stopping: AtomicBool,
}

impl Handles {
    /// Stores the handles of the servers, so that signals can stop them. `drain` is the drain timeout.
    pub(crate) fn set(&self, servers: &[(Service, TcpServer)], drain: Duration) {
        let handle = |(service, server): &(Service, TcpServer)| (*service, server.handle());
        self.0.get_or_init(|| Servers {
            handles: servers.iter().map(handle).collect(),
            drain,
            since: SystemTime::now(),
            stopping: AtomicBool::new(false),
        });
    }

    pub(crate) fn all(&self) -> &[(Service, ServerHandle)] {
        self.0.get().map_or(&[], |servers| &servers.handles)
    }

    /// Returns when the servers began to listen.
    pub(crate) fn since(&self) -> Option<SystemTime> {
        self.0.get().map(|servers| servers.since)
    }

    /// Returns whether the servers listen and no stop was requested, so that new clients should come.
    pub(crate) fn is_ready(&self) -> bool {
        let servers = self.0.get();
        servers.is_some_and(|servers| !servers.stopping.load(Ordering::Relaxed))
    }

    /// Stops all servers after a delay, during which they keep accepting. Notifies the service manager at
    /// once.
    ///
    /// # Errors
    ///
    /// The thread that waits for the delay can't be started.
    pub(crate) fn shutdown_after(self: &Arc<Self>, delay: Duration) -> io::Result<()> {
        let all = Arc::clone(self);
        thread::Builder::new()
            .name("delay".to_owned())
            .spawn(move || {
                thread::sleep(delay);
                all.shutdown();
            })?;
        if let Some(servers) = self.0.get() {
            servers.stopping.store(true, Ordering::Relaxed);
            systemd::stopping(delay.saturating_add(servers.drain));
        }
        log::info!("stopping in {delay:?}; until then new clients are served");
        Ok(())
    }

    pub(crate) fn shutdown(&self) {
        if let Some(servers) = self.0.get() {
            servers.stopping.store(true, Ordering::Relaxed);
            self.all().iter().for_each(|(_, server)| server.shutdown());
            systemd::stopping(servers.drain);
        }
    }

    pub(crate) fn shutdown_now(&self) {
        let servers = self.all().iter();
        servers.for_each(|(_, server)| server.shutdown_now());
    }
}

/// Stops all servers when dropped, so that a server that ends, even by a panic, stops the others.
struct StopAllOnDrop<'h>(&'h Handles);

impl Drop for StopAllOnDrop<'_> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Serves until all servers have stopped, and returns how many connections were aborted.
///
/// The first server runs on this thread, each other one on a thread of its own. Calls `announce` once
/// everything else that can fail at the start has succeeded.
pub(crate) fn serve(
    servers: Vec<(Service, TcpServer)>,
    banner: Option<&Banner>,
    handles: &Arc<Handles>,
    announce: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let run = |(service, server): (Service, TcpServer)| {
        let _others = StopAllOnDrop(handles);
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
