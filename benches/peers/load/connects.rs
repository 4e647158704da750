//! Connect, one message, close. Each of the clients then starts again at once.

use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::connection::Connection;
use super::noise::Noise;
use super::poller::Poller;
use super::{Latencies, Target, Window, add_resident};
use crate::failure::{Failure, Result};
use crate::figures::{Figure, Figures};

const MESSAGE: usize = 128;

/// The most connections of a run, even if its time is not over.
///
/// The client closes first, so each connection leaves a port in `TIME_WAIT` at the client. Linux has 28,232
/// ephemeral ports for a server's address. With the maximum of 8000 clients, a run uses 28,000 of them.
const MAX_CONNECTIONS: u64 = 20_000;

pub(super) fn run(target: &Target, clients: usize) -> Result<Figures> {
    let mut clients = Clients::new(target, clients)?;
    let warm_up = clients.run_for(target.warm_up, MAX_CONNECTIONS / 4, &mut Latencies::new()?)?;
    let mut latencies = Latencies::new()?;
    let window = Window::open(target)?;
    let connections = clients.run_for(target.time, MAX_CONNECTIONS - warm_up, &mut latencies)?;
    let (rate, cpu) = window.close(connections)?;

    let mut figures = vec![(Figure::Connections, rate)];
    figures.extend(latencies.figures());
    figures.extend(cpu.map(|each| (Figure::CpuEach, each / 1000.0)));
    add_resident(&mut figures, target)?;
    Ok(figures)
}

struct Clients<'a> {
    target: &'a Target,
    poller: Poller,
    noise: Noise,
    buffer: [u8; MESSAGE + 1],
    /// The number of the next connection, so that each sends other bytes.
    next: usize,
    connections: Vec<Connection>,
}

impl<'a> Clients<'a> {
    fn new(target: &'a Target, count: usize) -> Result<Self> {
        let mut clients = Self {
            target,
            poller: Poller::new()?,
            noise: Noise::new(),
            buffer: [0; MESSAGE + 1],
            next: 0,
            connections: Vec::with_capacity(count),
        };
        for client in 0..count {
            let connection = clients.begin(client)?;
            clients.connections.push(connection);
        }
        Ok(clients)
    }

    /// Runs for `time`, or until `most` connections have ended. Returns how many have.
    fn run_for(&mut self, time: Duration, most: u64, latencies: &mut Latencies) -> Result<u64> {
        let start = Instant::now();
        let mut ended = 0;
        while start.elapsed() < time && ended < most {
            for index in 0..self.poller.wait()? {
                let (client, ready) = self.poller.ready(index);
                if !self.proceed(client, ready)? {
                    continue;
                }
                latencies.record(self.connections[client].since.elapsed());
                ended += 1;
                // Replacing the old connection closes it, which also removes it from the epoll set.
                self.connections[client] = self.begin(client)?;
            }
        }
        Ok(ended)
    }

    /// Begins to connect. If `connect` succeeds at once, as on loopback, also sends the message.
    fn begin(&mut self, client: usize) -> Result<Connection> {
        let (mut connection, connected) = Connection::open(self.target.addr, self.next)?;
        self.next += 1;
        let flags = if connected {
            connection.send_all(&self.noise, MESSAGE)?;
            EventFlags::IN
        } else {
            EventFlags::OUT
        };
        self.poller.add(&connection, client, flags)?;
        Ok(connection)
    }

    /// Takes the next step of a connection. Returns whether that was the last step.
    fn proceed(&mut self, client: usize, ready: EventFlags) -> Result<bool> {
        let connection = &mut self.connections[client];
        if ready.contains(EventFlags::OUT) {
            connection.connected()?;
            connection.send_all(&self.noise, MESSAGE)?;
            self.poller.modify(&*connection, client, EventFlags::IN)?;
            return Ok(false);
        }
        match connection.receive(&self.noise, &mut self.buffer)? {
            Some(0) if connection.half_closed() => Ok(true),
            Some(0) => Err(Failure::new("a FIN before the client's")),
            Some(_) if connection.owed() == 0 => connection.half_close().map(|()| false),
            _ => Ok(false),
        }
    }
}
