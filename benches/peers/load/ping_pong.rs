//! Messages, one in flight on each connection: the next goes out when the last is back.

use std::time::{Duration, Instant};

use super::clients::{connect_all, part};
use super::connection::Connection;
use super::noise::Noise;
use super::poller::Poller;
use super::{Latencies, Target, Window, add_resident};
use crate::failure::Result;
use crate::figures::{Figure, Figures};

pub(super) fn run(target: &Target, size: usize, connections: usize) -> Result<Figures> {
    let mut poller = Poller::new()?;
    let mut clients = connect_all(&mut poller, target.addr, connections)?.connections;
    let mut game = Game {
        noise: Noise::new(),
        // With room for what must not come.
        buffer: vec![0; size + 1],
        size,
    };
    for connection in &mut clients {
        connection.since = Instant::now();
        connection.send_all(&game.noise, size)?;
    }
    game.play(
        &mut poller,
        &mut clients,
        target.warm_up,
        &mut Latencies::new()?,
    )?;
    let mut latencies = Latencies::new()?;
    let window = Window::open(target)?;
    let messages = game.play(&mut poller, &mut clients, target.time, &mut latencies)?;
    let (rate, cpu) = window.close(messages)?;

    let mut figures = vec![(Figure::Messages, rate)];
    figures.extend(latencies.figures());
    figures.extend(cpu.map(|each| (Figure::CpuEach, each / 1000.0)));
    add_resident(&mut figures, target)?;
    part(&mut poller, &mut clients, &game.noise)?;
    Ok(figures)
}

struct Game {
    noise: Noise,
    buffer: Vec<u8>,
    size: usize,
}

impl Game {
    /// Plays for `time`. Returns how many messages came back.
    fn play(
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
