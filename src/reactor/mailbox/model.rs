//! The mailbox under a model checker, with the loop and the threads that bring connections.
//!
//! The [loop](Loop) opens the mailbox, falls asleep and clears its waker in the order of
//! [`event_loop`](crate::reactor::event_loop). If the loop sleeps for ever although it must end, the
//! checker reports a deadlock.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::option_option,
    reason = "a test fails by panicking, and a world is a list of facts"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::{Config, MaxSteps, Runner, thread};

use super::Mailbox;
use crate::reactor::slab::Token;

#[derive(Clone, Copy)]
struct Plan {
    threads: u64,
    /// The number of connections that each thread brings.
    entries: u64,
    stops: bool,
    end: End,
}

/// A connection: its number, and when the loop must look at it.
#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    alarm: Option<Instant>,
}

struct Reactor {
    mailbox: Mailbox<Entry>,
    kernel: Mutex<Kernel>,
    changed: Condvar,
    base: Instant,
}

/// The `epoll(7)` set, and the facts that the test checks.
#[derive(Default)]
struct Kernel {
    /// Whether the waker is readable.
    woken: bool,
    /// Whether the pipe of the stop is readable and in the set.
    stopped: bool,
    /// Whether the peers have closed all connections in the set.
    peers_gone: bool,
    /// If the loop sleeps, until when.
    asleep: Option<Option<Instant>>,
    /// The connections in the mailbox, which the loop has not taken yet.
    under_way: BTreeMap<u64, Option<Instant>>,
    /// The connections that the loop has taken.
    taken: BTreeSet<u64>,
    /// The connections that the loop has informed of the stop.
    informed: BTreeSet<u64>,
    /// The connections that the mailbox has returned.
    returned: BTreeSet<u64>,
    /// Whether the loop has informed all its connections of the stop.
    loop_stopped: bool,
}

struct Events {
    woken: bool,
    stopped: bool,
    peers_gone: bool,
}

impl Reactor {
    fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Kernel)) {
        change(&mut self.kernel());
        self.changed.notify_all();
    }

    fn wake(&self) {
        self.change(|kernel| kernel.woken = true);
    }

    fn deliver(&self, entry: Entry) {
        let Entry { number, alarm } = entry;
        let delivered = self.mailbox.deliver(entry, alarm, |_, _| {
            self.kernel().under_way.insert(number, alarm);
            true
        });
        match delivered {
            Ok(true) => self.wake(),
            Ok(false) => {}
            Err(entry) => self.change(|kernel| {
                assert!(kernel.returned.insert(entry.number));
            }),
        }
    }

    /// Sleeps until there are events, and returns them. With `None` does not sleep.
    fn collect(&self, timeout: Option<Option<Instant>>) -> Events {
        let mut kernel = self.kernel();
        if timeout.is_some() {
            kernel.asleep = timeout;
            self.changed.notify_all();
            while !kernel.woken && !kernel.stopped && !kernel.peers_gone {
                kernel = self.changed.wait(kernel).unwrap();
            }
            kernel.asleep = None;
        }
        Events {
            woken: kernel.woken,
            stopped: kernel.stopped,
            peers_gone: mem::take(&mut kernel.peers_gone),
        }
    }

    /// Waits until the loop sleeps and nothing is about to wake the loop. Checks that it may sleep.
    fn check_sleep(&self) {
        let mut kernel = self.kernel();
        let until = loop {
            let is_quiet = !kernel.woken && !kernel.stopped && !kernel.peers_gone;
            match kernel.asleep {
                Some(until) if is_quiet => break until,
                _ => kernel = self.changed.wait(kernel).unwrap(),
            }
        };
        for (number, alarm) in &kernel.under_way {
            assert!(!kernel.loop_stopped, "{number} is not informed of the stop");
            if let Some(alarm) = alarm {
                let sleeps_past = until.is_none_or(|until| until > *alarm);
                assert!(!sleeps_past, "the alarm of {number} is overslept");
            }
        }
        if kernel.loop_stopped {
            assert_eq!(kernel.informed, kernel.taken);
        }
    }
}

/// The thread of the reactor.
struct Loop {
    reactor: Arc<Reactor>,
    entries: Vec<(Token, Entry)>,
    freed: Vec<Token>,
}

impl Loop {
    fn run(mut self) {
        loop {
            let alarm = self
                .entries
                .iter()
                .filter_map(|(_, entry)| entry.alarm)
                .min();
            let may_sleep = self
                .reactor
                .mailbox
                .fall_asleep(alarm, self.entries.is_empty());
            let events = self.reactor.collect(may_sleep.then_some(alarm));
            if events.woken {
                self.reactor.change(|kernel| kernel.woken = false);
            }
            if self.open_mailbox() {
                break;
            }
            if events.stopped {
                self.stop();
            }
            if events.peers_gone || thread_rng().gen_bool(0.3) {
                self.freed
                    .extend(self.entries.drain(..).map(|(token, _)| token));
            }
        }
        // The real loop does this when it is dropped.
        self.reactor.mailbox.close();
    }

    /// Returns whether the loop must end.
    fn open_mailbox(&mut self) -> bool {
        let freed = self.freed.drain(..);
        let Some(opened) = self.reactor.mailbox.open(freed, self.entries.is_empty()) else {
            return true;
        };
        for (token, entry) in opened.arrivals {
            assert!(self.entries.iter().all(|&(other, _)| other != token));
            self.entries.push((token, entry));
            self.reactor.change(|kernel| {
                let number = entry.number;
                assert!(kernel.under_way.remove(&number).is_some());
                assert!(kernel.taken.insert(number), "{number} comes twice");
                if opened.stopped {
                    kernel.informed.insert(number);
                }
            });
        }
        false
    }

    fn stop(&mut self) {
        self.reactor.mailbox.stop();
        self.reactor.change(|kernel| {
            kernel.stopped = false;
            kernel.loop_stopped = true;
            kernel.informed = mem::take(&mut kernel.taken);
            kernel.taken = kernel.informed.clone();
        });
    }
}

/// What else happens while the server ends its reactor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nothing: the loop sleeps, and has no connections.
    Idle,
    /// A thread brings the last connection, and its peer closes it.
    WithTheLastConnection,
    /// A watchdog wakes the loop.
    WithAWatchdog,
}

fn play(plan: Plan) {
    let reactor = Arc::new(Reactor {
        mailbox: Mailbox::new(),
        kernel: Mutex::default(),
        changed: Condvar::new(),
        base: Instant::now(),
    });
    let looping = thread::spawn({
        let reactor = Arc::clone(&reactor);
        let (entries, freed) = (Vec::new(), Vec::new());
        move || {
            Loop {
                reactor,
                entries,
                freed,
            }
            .run();
        }
    });
    let mut threads: Vec<_> = (0..plan.threads)
        .map(|thread| {
            let reactor = Arc::clone(&reactor);
            thread::spawn(move || {
                for entry in 0..plan.entries {
                    let after = thread_rng().gen_range(0..4u64);
                    let alarm = reactor.base + Duration::from_secs(after);
                    reactor.deliver(Entry {
                        number: thread * plan.entries + entry,
                        alarm: (after > 0).then_some(alarm),
                    });
                }
            })
        })
        .collect();
    if plan.stops {
        let reactor = Arc::clone(&reactor);
        threads.push(thread::spawn(move || {
            reactor.change(|kernel| kernel.stopped = true);
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    reactor.check_sleep();
    reactor.change(|kernel| kernel.peers_gone = true);
    reactor.check_sleep();
    let other = thread::spawn({
        let reactor = Arc::clone(&reactor);
        move || match plan.end {
            End::Idle => {}
            End::WithTheLastConnection => {
                reactor.deliver(Entry {
                    number: u64::MAX - 1,
                    alarm: None,
                });
                reactor.change(|kernel| kernel.peers_gone = true);
            }
            End::WithAWatchdog => reactor.wake(),
        }
    });
    reactor.mailbox.end();
    reactor.wake();
    other.join().unwrap();
    looping.join().unwrap();
    {
        let mut kernel = reactor.kernel();
        for number in mem::take(&mut kernel.returned) {
            kernel.under_way.remove(&number);
            kernel.taken.insert(number);
        }
        assert!(kernel.under_way.is_empty(), "an entry is lost");
        let last = u64::from(plan.end == End::WithTheLastConnection);
        assert_eq!(
            kernel.taken.len() as u64,
            plan.threads * plan.entries + last
        );
    }
    let late = Entry {
        number: u64::MAX,
        alarm: None,
    };
    reactor.deliver(late);
    assert!(reactor.kernel().returned.contains(&u64::MAX));
}

fn check(plan: Plan) {
    let mut config = Config::default();
    config.max_steps = MaxSteps::FailAfter(50_000);
    Runner::new(RandomScheduler::new(RUNS), config.clone()).run(move || play(plan));
    Runner::new(PctScheduler::new(3, RUNS), config).run(move || play(plan));
}

const RUNS: usize = 3000;

const PLAN: Plan = Plan {
    threads: 2,
    entries: 2,
    stops: false,
    end: End::Idle,
};

#[test]
fn no_arrival_is_lost_or_overslept() {
    check(PLAN);
}

#[test]
fn every_arrival_is_told_of_a_stop() {
    check(Plan {
        stops: true,
        ..PLAN
    });
}

#[test]
fn the_loop_ends_with_its_last_connection() {
    check(Plan {
        end: End::WithTheLastConnection,
        ..PLAN
    });
}

#[test]
fn the_loop_ends_whatever_else_wakes_it() {
    check(Plan {
        end: End::WithAWatchdog,
        ..PLAN
    });
}
