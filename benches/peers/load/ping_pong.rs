//! Messages, one in flight on each connection: the client sends the next when it has the echo of the last.

use std::time::{Duration, Instant};

use super::clients::{connect_all, end_all};
use super::connection::Connection;
use super::noise::Noise;
use super::poller::Poller;
use super::{Latencies, Target, Window, add_resident};
use crate::failure::Result;
use crate::figures::{Figure, Figures};

pub(super) fn run(target: &Target, size: usize, connections: usize) -> Result<Figures> {
    let mut poller = Poller::new()?;
    let mut clients = connect_all(&mut poller, target.addr, connections)?.connections;
    let mut exchange = Exchange {
        noise: Noise::new(),
        // One byte more than the echo, to see a server that sends too much.
        buffer: vec![0; size + 1],
        size,
    };
    for connection in &mut clients {
        connection.since = Instant::now();
        connection.send_all(&exchange.noise, size)?;
    }
    exchange.run_for(
        &mut poller,
        &mut clients,
        target.warm_up,
        &mut Latencies::new()?,
    )?;
    let mut latencies = Latencies::new()?;
    let window = Window::open(target)?;
    let messages = exchange.run_for(&mut poller, &mut clients, target.time, &mut latencies)?;
    let (rate, cpu) = window.close(messages)?;

    let mut figures = vec![(Figure::Messages, rate)];
    figures.extend(latencies.figures());
    figures.extend(cpu.map(|each| (Figure::CpuEach, each / 1000.0)));
    add_resident(&mut figures, target)?;
    end_all(&mut poller, &mut clients, &exchange.noise)?;
    Ok(figures)
}

struct Exchange {
    noise: Noise,
    buffer: Vec<u8>,
    size: usize,
}

impl Exchange {
    /// Exchanges messages for `time`. Returns how many came back.
    fn run_for(
        &mut self,
        poller: &mut Poller,
        clients: &mut [Connection],
        time: Duration,
        latencies: &mut Latencies,
    ) -> Result<u64> {
        let start = Instant::now();
        let mut now = start;
        let mut messages = 0;
        while now - start < time {
            for index in 0..poller.wait()? {
                let (number, _) = poller.ready(index);
                let connection = &mut clients[number];
                connection.receive(&self.noise, &mut self.buffer)?;
                now = Instant::now();
                if connection.owed() == 0 {
                    latencies.record(now - connection.since);
                    connection.since = now;
                    connection.send_all(&self.noise, self.size)?;
                    messages += 1;
                }
            }
        }
        Ok(messages)
    }
}
