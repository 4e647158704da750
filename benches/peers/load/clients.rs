//! Many connections at once: made, silent, all speaking, and ended.

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

/// A SYN that was dropped is sent again after a second.
const SECOND_SYN: Duration = Duration::from_millis(900);

/// How many connect between two looks at who has.
const LOOK_AFTER: usize = 128;

/// What all of them together may take, to connect or to be answered.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the silent clients are watched, and how long a server has before that to come to rest.
const WATCHED: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(500);

/// How fast the clients get in: until all have connected, and until all have had an echo.
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
    part(&mut poller, &mut arrivals.connections, &noise)?;
    Ok(figures)
}

/// What silent clients cost, and how fast all of them are answered when they send.
pub(super) fn idle(target: &Target) -> Result<Figures> {
    let noise = Noise::new();
    let mut poller = Poller::new()?;
    let meter = target.meter;
    let empty = meter.map(Meter::resident).transpose()?;
    let mut clients = connect_all(&mut poller, target.addr, CLIENTS)?.connections;
    // Who has had an echo has been accepted.
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
    part(&mut poller, &mut clients, &noise)?;
    Ok(figures)
}

/// Connections that were made at once.
pub(super) struct Arrivals {
    pub(super) connections: Vec<Connection>,
    /// How many have not connected yet.
    waiting: usize,
    /// How many took so long that their SYN must have been sent twice.
    late: u64,
}

/// Connects `count` times, as fast as it goes, and waits until all are.
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
        // Or the time until it is looked at would count as the time that it took.
        if number % LOOK_AFTER == LOOK_AFTER - 1 {
            let ready = poller.wait_for(Duration::ZERO)?;
            arrivals.welcome(poller, ready)?;
        }
    }
    while arrivals.waiting > 0 {
        let ready = poller.wait()?;
        arrivals.welcome(poller, ready)?;
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
    fn welcome(&mut self, poller: &mut Poller, ready: usize) -> Result {
        for index in 0..ready {
            let (number, flags) = poller.ready(index);
            if !flags.contains(EventFlags::OUT) {
                return Err(Failure::new("the end before the client's"));
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

/// Has each send a message, and waits until all have it back.
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
                    let early = || Failure::new("the end before the client's");
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

/// Waits for what each connection is owed, half-closes it, and waits for its end.
pub(super) fn part(poller: &mut Poller, clients: &mut [Connection], noise: &Noise) -> Result {
    let mut buffer = vec![0; LONGEST];
    let mut left = clients.len();
    for (number, connection) in clients.iter_mut().enumerate() {
        // One that was waiting for room to send must not wait for it any more.
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
                    // Its end would stay readable.
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
