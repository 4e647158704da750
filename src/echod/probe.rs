//! `echod probe`: a client that tests an echo server, once or repeatedly, for health checks, load balancers,
//! firewalls and people.

mod exchange;
mod failure;
mod report;
mod tally;

use std::error::Error;
use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{panic, process, thread};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cannot_print;
use crate::cli::commands::Probe;
use crate::limits;
use exchange::{Connection, Payload};
use failure::Cause;
pub(crate) use failure::Failure;
use report::Report;
use tally::Tally;

/// Maximum number of connections that a probe opens, or tests, at the same time.
const MAX_THREADS: usize = 64;

/// Runs all probes, prints the results, and returns the highest exit code.
pub(crate) fn run(options: &Probe) -> Result<u8, Box<dyn Error>> {
    let target = &options.target;
    let addrs = target.resolve_peer().map_err(|error| Failure {
        what: format!("cannot resolve {target}"),
        cause: Cause::Unresolved(error),
    })?;
    limits::raise_descriptors();
    check_descriptors(options)?;
    let payload = Payload::random(options.size.get());
    let report = Report::new(options, Tally::new()?);
    let is_single = report.is_single;
    let report = Arc::new(Mutex::new(report));
    if !is_single {
        summarize_at_interrupt(Arc::clone(&report))?;
    }
    let mut due = Instant::now();
    let mut probes = 0;
    while options.count == 0 || probes < options.count {
        if probes > 0 {
            // Sleep before the addition, because a very long interval would overflow the clock.
            thread::sleep(options.interval.saturating_sub(due.elapsed()));
            due += options.interval;
        }
        let (tally, addr) = probe(&addrs, &payload, options)?;
        lock(&report).add(&tally, addr).map_err(cannot_print)?;
        probes += 1;
    }
    let report = lock(&report);
    report.finish().map_err(cannot_print)?;
    Ok(report.total.exit_code)
}

/// Checks that this process may have all the connections of a probe at the same time.
fn check_descriptors(options: &Probe) -> Result<(), Failure> {
    let connections = options.connections.get();
    match limits::max_descriptors() {
        Some(limit) if connections as u64 >= limit => Err(Failure {
            what: format!("cannot hold {connections} connections"),
            cause: Cause::Other(io::Error::other(format!(
                "the limit on descriptors is {limit} (ulimit -Hn)"
            ))),
        }),
        _ => Ok(()),
    }
}

/// Makes SIGINT, SIGTERM and SIGHUP print the summary and end the process.
fn summarize_at_interrupt(report: Arc<Mutex<Report>>) -> Result<(), ctrlc::Error> {
    let mut interrupted = false;
    ctrlc::set_handler(move || {
        let report = Arc::clone(&report);
        // Print on another thread. If standard output is a full pipe, that thread blocks, and a second signal
        // must still end the process.
        let summary = thread::Builder::new().spawn(move || {
            let report = lock(&report);
            let printed = report.finish();
            process::exit(match report.total.exit_code {
                0 if printed.is_ok() && report.total.sent() > 0 => 0,
                // No probe ended, or the summary could not be printed.
                0 => 1,
                code => code.into(),
            });
        });
        if interrupted || summary.is_err() {
            process::exit(1);
        }
        interrupted = true;
    })
}

/// Opens all connections of one probe, then tests each while all are open, then ends them.
///
/// Returns the outcomes, and the last address that accepted.
fn probe(
    addrs: &[SocketAddr],
    payload: &Payload,
    options: &Probe,
) -> Result<(Tally, Option<SocketAddr>), Box<dyn Error>> {
    let mut tally = Tally::new()?;
    let count = options.connections.get();
    let progress = progress(count);

    progress.set_message("connecting");
    let opened = in_parallel(vec![(); count], |()| {
        let opened = Connection::open(addrs, payload, options.timeout);
        progress.inc(1);
        opened
    });
    let mut addr = None;
    let opened = tally.successes(opened, |tally, (connection, took)| {
        tally.count_connect(took);
        addr = Some(connection.addr);
        connection
    });

    progress.set_message("testing");
    let tested = in_parallel(opened, |mut connection| {
        let took = connection.exchange()?;
        progress.inc(1);
        Ok((connection, took))
    });
    let tested = tally.successes(tested, |_, tested| tested);

    progress.set_message("closing");
    let ended = in_parallel(tested, |(connection, took)| {
        connection.finish()?;
        progress.inc(1);
        Ok(took)
    });
    tally.successes(ended, Tally::count_echo);
    progress.finish_and_clear();
    Ok((tally, addr))
}

/// Returns a progress bar, which shows on standard error if that is a terminal. One connection needs none.
fn progress(connections: usize) -> ProgressBar {
    if connections == 1 {
        return ProgressBar::hidden();
    }
    // Three steps for each connection: open, test, close.
    let bar = ProgressBar::new((connections as u64).saturating_mul(3));
    match ProgressStyle::with_template("{msg:10} {wide_bar} {percent:>3} %") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Calls `work` with each item, on at most [`MAX_THREADS`] threads.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = items.len().min(MAX_THREADS);
    let items = Mutex::new(items.into_iter());
    let work = || {
        let next = || lock(&items).next();
        iter::from_fn(next).map(&work).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        // This thread works, too. So the work gets done even if no other thread can be started.
        let started: Vec<_> = (1..threads)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut results = work();
        for thread in started {
            let others = thread.join();
            results.extend(others.unwrap_or_else(|cause| panic::resume_unwind(cause)));
        }
        results
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
