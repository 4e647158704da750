//! The client: runs a workload against a server, checks every byte, and measures.
//!
//! The client shares the machine with the server, so it uses as little CPU time as it can. It is one thread
//! on epoll. For each message it makes one `recv`, one comparison, one reading of the clock and one `send`.

mod bulk;
mod clients;
mod connection;
mod connects;
mod noise;
mod ping_pong;
mod poller;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::{Failure, Result};
use crate::figures::{Figure, Figures};
use crate::usage::Meter;
use crate::workloads::Workload;

/// A server, and how long to load it.
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    /// `None` if the process is unknown. Then there are no figures of CPU time and memory.
    pub(crate) meter: Option<Meter>,
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
}

/// Runs `workload` against the server. Returns the figures, the rate first.
pub(crate) fn run(workload: Workload, target: &Target) -> Result<Figures> {
    match workload {
        Workload::PingPong { size, connections } => ping_pong::run(target, size, connections),
        Workload::Connect { clients } => connects::run(target, clients),
        Workload::Bulk { streams } => bulk::run(target, streams),
        Workload::BulkThreads => bulk::run_with_threads(target),
        Workload::Storm => clients::storm(target),
        Workload::Idle => clients::idle(target),
    }
}

/// The time in which the client measures.
struct Window {
    meter: Option<Meter>,
    cpu: Duration,
    start: Instant,
}

impl Window {
    fn open(target: &Target) -> Result<Self> {
        let meter = target.meter;
        let cpu = meter.map_or(Ok(Duration::ZERO), Meter::cpu)?;
        let start = Instant::now();
        Ok(Self { meter, cpu, start })
    }

    /// Returns the rate of `count` events since the window was opened, and the server's CPU time for each, in
    /// nanoseconds.
    fn close(self, count: u64) -> Result<(f64, Option<f64>)> {
        let elapsed = self.start.elapsed();
        let cpu = self.meter.map(Meter::cpu).transpose()?;
        let each = |cpu: Duration| nanoseconds(cpu.saturating_sub(self.cpu)) / float(count);
        Ok((float(count) / elapsed.as_secs_f64(), cpu.map(each)))
    }
}

/// Adds the server's current resident memory.
fn add_resident(figures: &mut Figures, target: &Target) -> Result {
    if let Some(meter) = target.meter {
        figures.push((Figure::Resident, float(meter.resident()?) / 1e6));
    }
    Ok(())
}

/// Latencies, to three digits, up to a minute.
struct Latencies(Histogram<u64>);

impl Latencies {
    fn new() -> Result<Self> {
        let histogram = Histogram::new_with_bounds(100, 60_000_000_000, 3);
        let failed = |error| Failure::new(format!("cannot make a histogram: {error}"));
        Ok(Self(histogram.map_err(failed)?))
    }

    fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    fn figures(&self) -> Figures {
        let microseconds = |quantile| float(self.0.value_at_quantile(quantile)) / 1000.0;
        vec![
            (Figure::P50, microseconds(0.5)),
            (Figure::P99, microseconds(0.99)),
            (Figure::P999, microseconds(0.999)),
        ]
    }
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[allow(clippy::cast_precision_loss, reason = "a figure has far fewer digits")]
fn float(count: u64) -> f64 {
    count as f64
}
