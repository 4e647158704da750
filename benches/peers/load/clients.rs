//! Many clients at once: they connect, are silent, send, and close.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::connection::Connection;
use super::noise::{LONGEST, Noise};
use super::poller::{Poller, TIMEOUT, silence};
use super::{Target, Window, add_resident, float};
use crate::failure::{Failure, Result};
use crate::figures::{Figure, Figures};
use crate::usage::Meter;
use crate::workloads::CLIENTS;

const MESSAGE: usize = 128;

/// A connection that takes longer than this needed a second SYN, which Linux sends after a second.
const SECOND_SYN: Duration = Duration::from_millis(900);

/// How many clients begin to connect before the next look at which have connected.
const BATCH: usize = 128;

/// Time limit for all clients together to connect, and to receive an echo.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the benchmark measures a server whose clients are silent.
const WATCHED: Duration = Duration::from_secs(1);
/// How long a server has before that to become idle.
const REST: Duration = Duration::from_millis(500);

/// Measures how fast clients connect: until all have connected, and until all have received an echo.
pub(super) fn storm(target: &Target) -> Result<Figures> {
    let noise = Noise::new();
    let mut poller = Poller::new()?;
    let window = Window::open(target)?;
    let start = window.start;
    let mut arrivals = connect_all(&mut poller, target.addr, CLIENTS)?;
    let connected = start.elapsed();
    exchange(&mut poller, &mut arrivals.connections, &noise)?;
    let echoed = start.elapsed();
    let (rate, cpu) = window.close(CLIENTS as u64)?;

    let mut figures = vec![
        (Figure::Connections, rate),
        (Figure::Connected, connected.as_secs_f64()),
        (Figure::Echoed, echoed.as_secs_f64()),
        (Figure::SecondSyns, float(arrivals.late)),
    ];
    figures.extend(cpu.map(|each| (Figure::CpuEach, each / 1000.0)));
    add_resident(&mut figures, target)?;
    end_all(&mut poller, &mut arrivals.connections, &noise)?;
    Ok(figures)
}

/// Measures what silent clients cost, and how fast the server answers all of them when they send.
pub(super) fn idle(target: &Target) -> Result<Figures> {
    let noise = Noise::new();
    let mut poller = Poller::new()?;
    let meter = target.meter;
    let empty = meter.map(Meter::resident).transpose()?;
    let mut clients = connect_all(&mut poller, target.addr, CLIENTS)?.connections;
    // After an echo on each connection, the server has accepted all of them.
    exchange(&mut poller, &mut clients, &noise)?;
    thread::sleep(REST);

    let mut costs = Vec::new();
    if let (Some(meter), Some(empty)) = (meter, empty) {
        let (switches, cpu) = (meter.switches()?, meter.cpu()?);
        let start = Instant::now();
        thread::sleep(WATCHED);
        let elapsed = start.elapsed().as_secs_f64();
        let cpu = meter.cpu()?.saturating_sub(cpu).as_secs_f64();
        let switches = meter.switches()?.saturating_sub(switches);
        let resident = float(meter.resident()?.saturating_sub(empty));
        costs = vec![
            (
                Figure::ResidentEach,
                resident / 1024.0 / float(CLIENTS as u64),
            ),
            (Figure::IdleCpu, cpu * 1000.0 / elapsed),
            (Figure::IdleSwitches, float(switches) / elapsed),
        ];
    }

    let window = Window::open(target)?;
    exchange(&mut poller, &mut clients, &noise)?;
    let answered = window.start.elapsed();
    let (rate, _) = window.close(CLIENTS as u64)?;
    let mut figures = vec![(Figure::Messages, rate)];
    figures.push((Figure::LastEcho, answered.as_secs_f64() * 1000.0));
    figures.extend(costs);
    end_all(&mut poller, &mut clients, &noise)?;
    Ok(figures)
}

/// Clients that connect at once.
pub(super) struct Arrivals {
    pub(super) connections: Vec<Connection>,
    /// How many clients have not connected yet.
    waiting: usize,
    /// How many clients took longer than `SECOND_SYN`.
    late: u64,
}

/// Connects `count` clients as fast as possible, and waits until all have connected.
pub(super) fn connect_all(
    poller: &mut Poller,
    server: SocketAddr,
    count: usize,
) -> Result<Arrivals> {
    let start = Instant::now();
    let mut arrivals = Arrivals {
        connections: Vec::with_capacity(count),
        waiting: 0,
        late: 0,
    };
    for number in 0..count {
        let (connection, connected) = Connection::open(server, number)?;
        let flags = if connected {
            EventFlags::IN
        } else {
            EventFlags::OUT
        };
        poller.add(&connection, number, flags)?;
        arrivals.connections.push(connection);
        arrivals.waiting += usize::from(!connected);
        // Look often. Otherwise the time until the look would count as time to connect.
        if number % BATCH == BATCH - 1 {
            let ready = poller.wait_for(Duration::ZERO)?;
            arrivals.note_connected(poller, ready)?;
        }
    }
    while arrivals.waiting > 0 {
        let ready = poller.wait()?;
        arrivals.note_connected(poller, ready)?;
        if start.elapsed() > DEADLINE {
            return Err(Failure::new(format!(
                "{} of {count} had not connected after {} s",
                arrivals.waiting,
                DEADLINE.as_secs()
            )));
        }
    }
    Ok(arrivals)
}

impl Arrivals {
    fn note_connected(&mut self, poller: &mut Poller, ready: usize) -> Result {
        for index in 0..ready {
            let (number, flags) = poller.ready(index);
            if !flags.contains(EventFlags::OUT) {
                return Err(Failure::new("a FIN before the client's"));
            }
            let connection = &self.connections[number];
            connection.connected()?;
            poller.modify(connection, number, EventFlags::IN)?;
            self.late += u64::from(connection.since.elapsed() >= SECOND_SYN);
            self.waiting -= 1;
        }
        Ok(())
    }
}

/// Sends a message on each connection, and waits until all echoes have come back.
fn exchange(poller: &mut Poller, clients: &mut [Connection], noise: &Noise) -> Result {
    let start = Instant::now();
    let mut buffer = [0; MESSAGE + 1];
    let mut waiting = clients.len();
    let mut lost = 0;
    let mut why = None;
    for connection in &mut *clients {
        connection.send_all(noise, MESSAGE)?;
    }
    while waiting > 0 {
        let ready = poller.wait_for(TIMEOUT)?;
        if ready == 0 || start.elapsed() > DEADLINE {
            lost += waiting;
            why.get_or_insert_with(silence);
            break;
        }
        for index in 0..ready {
            let (number, _) = poller.ready(index);
            match clients[number].receive(noise, &mut buffer) {
                Ok(Some(1..)) if clients[number].owed() == 0 => waiting -= 1,
                Ok(Some(1..) | None) => {}
                ended => {
                    poller.remove(&clients[number])?;
                    lost += 1;
                    waiting -= usize::from(clients[number].owed() > 0);
                    let early = || Failure::new("a FIN before the client's");
                    why.get_or_insert_with(|| ended.err().unwrap_or_else(early));
                }
            }
        }
    }
    why.map_or(Ok(()), |why| {
        Err(Failure::new(format!(
            "{lost} of {} lost: {why}",
            clients.len()
        )))
    })
}

/// Receives the rest of each echo, half-closes, and waits for the server's FIN.
pub(super) fn end_all(poller: &mut Poller, clients: &mut [Connection], noise: &Noise) -> Result {
    let mut buffer = vec![0; LONGEST];
    let mut left = clients.len();
    for (number, connection) in clients.iter_mut().enumerate() {
        // A connection may still wait for room to send. It must not any more.
        poller.modify(&*connection, number, EventFlags::IN)?;
        if connection.owed() == 0 {
            connection.half_close()?;
        }
    }
    while left > 0 {
        for index in 0..poller.wait()? {
            let (number, _) = poller.ready(index);
            let connection = &mut clients[number];
            match connection.receive(noise, &mut buffer)? {
                Some(0) => {
                    // The end of file would stay readable.
                    poller.remove(&*connection)?;
                    left -= 1;
                }
                Some(_) if connection.owed() == 0 => connection.half_close()?,
                _ => {}
            }
        }
    }
    Ok(())
}
