//! The servers of this process: they start together, and one that ends takes the others with it.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;
use std::{panic, thread};

use socketserver::{ServerHandle, TcpServer, Totals};

use crate::service::Service;
use crate::systemd;

/// The handles of all servers, once they listen. Empty until then.
#[derive(Debug, Default)]
pub(crate) struct Handles(OnceLock<(Vec<ServerHandle>, Duration)>);

impl Handles {
    /// Makes the servers known: from now on there is something to stop. They drain for so long.
    pub(crate) fn set(&self, servers: &[(Service, TcpServer)], drain: Duration) {
        let handles = servers.iter().map(|(_, server)| server.handle()).collect();
        self.0.get_or_init(|| (handles, drain));
    }

    pub(crate) fn all(&self) -> &[ServerHandle] {
        self.0.get().map_or(&[], |(handles, _)| handles)
    }

    pub(crate) fn shutdown(&self) {
        if let Some((handles, drain)) = self.0.get() {
            handles.iter().for_each(ServerHandle::shutdown);
            systemd::stopping(*drain);
        }
    }

    pub(crate) fn shutdown_now(&self) {
        self.all().iter().for_each(ServerHandle::shutdown_now);
    }
}

/// Stops all servers when it is dropped: also where one has panicked.
struct StopsAll<'h>(&'h Handles);

impl Drop for StopsAll<'_> {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

/// Serves until all have stopped, each on a thread of its own but the first. Returns how many
/// connections had to be cut.
pub(crate) fn serve(
    servers: Vec<(Service, TcpServer)>,
    handles: &Handles,
) -> Result<u64, Box<dyn Error>> {
    let run = |(service, server): (Service, TcpServer)| {
        let _others = StopsAll(handles);
        service.serve(server)
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
                .map_err(|error| format!("cannot start a thread: {error}"))?;
            threads.push(spawned);
        }
        let mut outcomes: Vec<_> = first.map(run).into_iter().collect();
        for thread in threads {
            outcomes.push(
                thread
                    .join()
                    .unwrap_or_else(|cause| panic::resume_unwind(cause)),
            );
        }
        let totals: Result<Vec<_>, _> = outcomes.into_iter().collect();
        Ok(totals?.iter().map(Totals::cut).sum())
    })
}
