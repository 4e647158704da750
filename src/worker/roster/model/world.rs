//! The model's replacement for sockets: a count of waiting clients, and a stop.

use std::io;
use std::sync::Arc;

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::MutexGuard;
use shuttle::thread;

use super::Server;
use crate::error::Error;
use crate::reactor::Job;

#[derive(Default)]
pub(super) struct World {
    /// Clients in the backlog.
    pub(super) waiting: usize,
    /// Clients that were accepted, or had gone when a thread tried.
    pub(super) done: usize,
    /// Connections that are served, and jobs that are not finished.
    pub(super) busy: usize,
    pub(super) jobs_done: usize,
    pub(super) threads: usize,
    /// The number of threads that hold the lead.
    pub(super) leaders: usize,
    /// Whether the supervisor has held the lead again after another thread led.
    pub(super) supervisor_led: bool,
    pub(super) handed_over: bool,
    pub(super) stopped: bool,
    pub(super) wakes_lead: bool,
    pub(super) wakes_supervisor: bool,
}

pub(super) enum Waited {
    Client,
    Woken,
    TimedOut,
    Stopped,
}

#[derive(Clone, Copy)]
pub(super) struct Watch {
    pub(super) clients: bool,
    pub(super) times_out: bool,
    pub(super) is_supervisor: bool,
}

/// The only lead. Dropping it before it `ends` fails the test.
pub(super) struct Lead {
    pub(super) server: Arc<Server>,
    pub(super) ends: bool,
}

impl Drop for Lead {
    fn drop(&mut self) {
        assert!(self.ends || std::thread::panicking(), "the lead is lost");
    }
}

pub(super) fn coin(heads: f64) -> bool {
    thread_rng().gen_bool(heads)
}

impl Lead {
    pub(super) fn wait(&self, watch: Watch) -> Waited {
        let mut world = self.server.world();
        world.leaders += 1;
        assert_eq!(world.leaders, 1, "two threads lead");
        world.handed_over |= !watch.is_supervisor;
        world.supervisor_led |= watch.is_supervisor && world.handed_over;
        self.server.changed.notify_all();
        let waited = loop {
            if world.stopped {
                break Waited::Stopped;
            }
            let woken = std::mem::take(&mut world.wakes_lead);
            let woken =
                woken || (watch.is_supervisor && std::mem::take(&mut world.wakes_supervisor));
            if woken {
                break Waited::Woken;
            }
            if watch.clients && world.waiting > 0 {
                break Waited::Client;
            }
            if watch.times_out && !self.server.plan.waits {
                drop(world);
                thread::yield_now();
                world = self.server.world();
                if coin(0.5) {
                    break Waited::TimedOut;
                }
            } else {
                world = self.server.changed.wait(world).unwrap();
            }
        };
        world.leaders -= 1;
        waited
    }

    /// Returns whether a client was accepted.
    pub(super) fn accept(&self) -> Result<bool, Error> {
        let mut world = self.server.world();
        if self.server.plan.breaks && coin(0.3) {
            let cause = io::Error::other("it was shut down");
            return Err(Error::new("cannot accept", cause));
        }
        if world.stopped || world.waiting == 0 {
            return Ok(false);
        }
        world.waiting -= 1;
        world.done += 1;
        self.server.changed.notify_all();
        // The client may have gone before it was accepted. A handler that waits for the jobs needs its client.
        let accepted = self.server.plan.waits_for_jobs || coin(0.8);
        world.busy += usize::from(accepted);
        Ok(accepted)
    }
}

impl Server {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
        self.changed.notify_all();
    }

    pub(super) fn wake_supervisor(&self) {
        self.change(|world| world.wakes_supervisor = true);
    }

    /// Sleeps on the supervisor's waker. Returns whether the sleep timed out.
    pub(super) fn sleep(&self, times_out: bool) -> bool {
        let mut world = self.world();
        while !world.wakes_supervisor {
            if times_out {
                drop(world);
                thread::yield_now();
                world = self.world();
                if coin(0.5) {
                    return true;
                }
            } else {
                world = self.changed.wait(world).unwrap();
            }
        }
        world.wakes_supervisor = false;
        false
    }

    pub(super) fn serve(&self) {
        if self.plan.waits {
            // If no thread can take the lead, it must reach the supervisor while this thread is busy.
            self.wait_until(|world| world.supervisor_led);
        }
        if self.plan.waits_for_jobs {
            self.wait_until(|world| world.jobs_done == self.plan.jobs);
        }
        self.finish_one();
    }

    /// Gives the slot of a connection back.
    pub(super) fn finish_one(&self) {
        self.change(|world| {
            world.busy -= 1;
            world.wakes_supervisor |= world.busy == 0;
        });
    }

    pub(super) fn job(self: &Arc<Self>) -> Job {
        let server = Arc::clone(self);
        Box::new(move || {
            server.change(|world| world.jobs_done += 1);
            server.finish_one();
        })
    }

    pub(super) fn wait_until(&self, condition: impl Fn(&World) -> bool) {
        let mut world = self.world();
        while !condition(&world) {
            world = self.changed.wait(world).unwrap();
        }
    }
}
