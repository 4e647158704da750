//! The roster under a model checker, which tries many interleavings of its threads.
//!
//! The methods of [`Server`] are those of the crew with the same names, step by step. Only what
//! touches sockets is replaced, by a count of the clients that wait. A thread that waits for ever
//! is found by the checker, as a deadlock: a lead that is lost, a client that nobody accepts, a
//! wake-up that is missing, a thread that never ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::option_option,
    reason = "a test fails by panicking, and a world is a list of facts"
)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::{Config, MaxSteps, Runner, thread};

use super::{Followed, Found, Roster, Task};
use crate::error::Error;
use crate::reactor::Job;

type Seat = super::Seat<Lead>;

/// What a run of the model is given.
#[derive(Clone, Copy)]
struct Plan {
    max_threads: usize,
    clients: usize,
    jobs: usize,
    /// Whether the stop comes at any time, instead of after the last client and job.
    stops_early: bool,
    /// Whether a listener may become unusable.
    breaks: bool,
    /// Whether idle threads stay, and a pause outlasts the run, so that only a wake-up can end
    /// what the supervisor waits for.
    waits: bool,
}

/// The lead. There is one, and it must be dropped by the thread that ends it, and by no other.
struct Lead {
    server: Arc<Server>,
    ends: bool,
}

impl Drop for Lead {
    fn drop(&mut self) {
        assert!(self.ends || std::thread::panicking(), "the lead is lost");
    }
}

/// The crew, and the world around it.
struct Server {
    plan: Plan,
    roster: Roster<Lead>,
    world: Mutex<World>,
    changed: Condvar,
    seats: Mutex<Vec<Arc<Seat>>>,
}

#[derive(Default)]
struct World {
    /// Clients in the backlog.
    waiting: usize,
    /// Clients that were accepted, or have left before.
    done: usize,
    /// Connections that are served, and jobs that are not done.
    busy: usize,
    jobs_done: usize,
    threads: usize,
    /// How many threads hold the lead.
    leaders: usize,
    /// Whether the supervisor has held the lead since it first handed the lead over.
    supervisor_led: bool,
    handed_over: bool,
    stopped: bool,
    wakes_lead: bool,
    wakes_supervisor: bool,
}

enum Waited {
    Client,
    Woken,
    TimedOut,
    Stopped,
}

#[derive(Clone, Copy)]
struct Watch {
    clients: bool,
    times_out: bool,
    is_supervisor: bool,
}

enum Held {
    Kept(Lead),
    HandedOver,
    Stopped,
}

fn coin(heads: f64) -> bool {
    thread_rng().gen_bool(heads)
}

impl Lead {
    fn wait(&self, watch: Watch) -> Waited {
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
    fn accept(&self) -> Result<bool, Error> {
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
        // The client may have gone again.
        let accepted = coin(0.8);
        world.busy += usize::from(accepted);
        Ok(accepted)
    }
}

impl Server {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world());
        self.changed.notify_all();
    }

    fn wake_supervisor(&self) {
        self.change(|world| world.wakes_supervisor = true);
    }

    fn supervise(self: &Arc<Self>, lead: Lead) -> Result<(), Error> {
        let mut pauses = false;
        let mut held = Some(lead);
        loop {
            held = match held {
                Some(lead) => match self.lead_without_serving(lead, &mut pauses) {
                    Held::Kept(lead) => Some(lead),
                    Held::HandedOver => None,
                    Held::Stopped => return Ok(()),
                },
                None => match self.roster.find() {
                    Found::Outcome(outcome) => return outcome,
                    Found::Lead(lead, _) => {
                        pauses = true;
                        Some(lead)
                    }
                    Found::Nothing => {
                        self.wait_while_a_thread_leads(&mut pauses);
                        None
                    }
                },
            }
        }
    }

    fn lead_without_serving(self: &Arc<Self>, mut lead: Lead, pauses: &mut bool) -> Held {
        if let Some(seat) = self.roster.take_idle_for_lead() {
            seat.give(Task::Lead(lead));
            return Held::HandedOver;
        }
        let waited = lead.wait(Watch {
            clients: !*pauses,
            times_out: *pauses,
            is_supervisor: true,
        });
        match waited {
            Waited::TimedOut => {
                *pauses = false;
                Held::Kept(lead)
            }
            Waited::Woken => Held::Kept(lead),
            Waited::Stopped => {
                lead.ends = true;
                Held::Stopped
            }
            Waited::Client => {
                if let Ok(seat) = self.start() {
                    self.roster.supervisor_has_handed_over();
                    seat.give(Task::Lead(lead));
                    Held::HandedOver
                } else {
                    *pauses = true;
                    Held::Kept(lead)
                }
            }
        }
    }

    fn wait_while_a_thread_leads(self: &Arc<Self>, pauses: &mut bool) {
        if !*pauses && self.roster.has_jobs() {
            match self.start() {
                Ok(seat) => self.roster.release(seat),
                Err(_) => *pauses = true,
            }
        }
        let times_out = *pauses && self.roster.has_jobs();
        if self.sleep(times_out) {
            *pauses = false;
        } else if *pauses {
            // The pause may have come to its end in the meantime.
            *pauses = coin(0.5);
        }
    }

    /// Sleeps on the supervisor's waker. Returns whether the time is over.
    fn sleep(&self, times_out: bool) -> bool {
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

    fn secure_follower(self: &Arc<Self>) -> io::Result<Arc<Seat>> {
        self.roster.take_idle().map_or_else(|| self.start(), Ok)
    }

    fn start(self: &Arc<Self>) -> io::Result<Arc<Seat>> {
        let mut world = self.world();
        if world.threads == self.plan.max_threads {
            return Err(io::Error::other("no more threads"));
        }
        world.threads += 1;
        drop(world);
        let seat = Arc::new(Seat::new());
        self.seats.lock().unwrap().push(Arc::clone(&seat));
        let handle = thread::spawn({
            let (seat, server) = (Arc::clone(&seat), Arc::clone(self));
            move || {
                server.work(&seat);
                server.change(|world| world.threads -= 1);
            }
        });
        seat.assign(handle.thread());
        Ok(seat)
    }

    fn work(self: &Arc<Self>, seat: &Arc<Seat>) {
        let mut next = seat.wait(None);
        while let Some(task) = next {
            match task {
                Task::Lead(lead) => self.lead(lead),
                Task::Do(job) => job(),
                Task::End => return,
            }
            next = self.follow(seat);
        }
    }

    fn follow(&self, seat: &Arc<Seat>) -> Option<Task<Lead>> {
        match self.roster.follow(seat) {
            Followed::Task(task) => return Some(task),
            Followed::Wait { wakes_supervisor } => {
                if wakes_supervisor {
                    self.change(|world| world.wakes_lead = true);
                }
            }
        }
        // A thread may be idle for too long at any time, and then its time is over at once.
        let is_over = !self.plan.waits && coin(0.3);
        let timeout = is_over.then_some(Duration::ZERO);
        seat.wait(timeout).or_else(|| {
            if self.roster.leave(seat) {
                None
            } else {
                seat.wait(None)
            }
        })
    }

    fn lead(self: &Arc<Self>, mut lead: Lead) {
        let watch = Watch {
            clients: true,
            times_out: false,
            is_supervisor: false,
        };
        let outcome = loop {
            match lead.wait(watch) {
                Waited::Client => {
                    let follower = self.secure_follower();
                    let accepted = lead.accept();
                    if let Ok(true) = accepted {
                        self.hand_over(lead, follower);
                        return self.serve();
                    }
                    if let Ok(seat) = follower {
                        self.roster.release(seat);
                    }
                    if let Err(error) = accepted {
                        break Err(error);
                    }
                }
                Waited::Woken | Waited::TimedOut => {}
                Waited::Stopped => break Ok(()),
            }
        };
        lead.ends = true;
        drop(lead);
        self.roster.end_lead(outcome);
        self.wake_supervisor();
    }

    fn hand_over(&self, lead: Lead, follower: io::Result<Arc<Seat>>) {
        match follower {
            Ok(seat) => seat.give(Task::Lead(lead)),
            Err(why) => {
                if self.roster.return_lead(lead, why) {
                    self.wake_supervisor();
                }
            }
        }
    }

    fn try_run(self: &Arc<Self>, job: Job) -> bool {
        match self.secure_follower() {
            Ok(seat) => {
                seat.give(Task::Do(job));
                true
            }
            Err(_) => false,
        }
    }

    fn run(self: &Arc<Self>, job: Job) {
        if let Ok(seat) = self.secure_follower() {
            seat.give(Task::Do(job));
        } else {
            self.roster.add_job(job);
            self.wake_supervisor();
        }
    }

    fn run_jobs(self: &Arc<Self>) {
        while let Some(job) = self.roster.take_job() {
            match self.start() {
                Ok(seat) => seat.give(Task::Do(job)),
                Err(_) => job(),
            }
        }
    }

    /// Waits for what is live to end, as `drain` does.
    fn drain(self: &Arc<Self>) {
        while self.world().busy > 0 {
            self.run_jobs();
            if self.world().busy > 0 {
                self.sleep(false);
            }
        }
    }

    fn serve(&self) {
        if self.plan.waits {
            // A lead that no thread can have must reach the supervisor while this thread is busy.
            self.wait_until(|world| world.supervisor_led);
        }
        self.finish_one();
    }

    /// Gives a slot back.
    fn finish_one(&self) {
        self.change(|world| {
            world.busy -= 1;
            world.wakes_supervisor |= world.busy == 0;
        });
    }

    fn job(self: &Arc<Self>) -> Job {
        let server = Arc::clone(self);
        Box::new(move || {
            server.change(|world| world.jobs_done += 1);
            server.finish_one();
        })
    }

    fn wait_until(&self, condition: impl Fn(&World) -> bool) {
        let mut world = self.world();
        while !condition(&world) {
            world = self.changed.wait(world).unwrap();
        }
    }
}

/// Plays the life of a server once.
fn play(plan: Plan) {
    let server = Arc::new(Server {
        plan,
        roster: Roster::new(),
        world: Mutex::default(),
        changed: Condvar::new(),
        seats: Mutex::default(),
    });
    let clients = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            for _ in 0..plan.clients {
                server.change(|world| world.waiting += 1);
            }
        }
    });
    // The reactor, which needs a thread now and then. A connection of its own is busy until then.
    server.world().busy += plan.jobs;
    let jobs = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            for _ in 0..plan.jobs {
                if coin(0.5) || !server.try_run(server.job()) {
                    server.run(server.job());
                }
            }
        }
    });
    let stopper = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            if !plan.stops_early {
                server
                    .wait_until(|world| world.done == plan.clients && world.jobs_done == plan.jobs);
            }
            server.change(|world| {
                world.stopped = true;
                world.wakes_lead = true;
                world.wakes_supervisor = true;
            });
        }
    });
    let lead = Lead {
        server: Arc::clone(&server),
        ends: false,
    };
    // Whether the outcome is an error is the listener's affair.
    let outcome = server.supervise(lead);
    assert!(plan.breaks || outcome.is_ok());
    if outcome.is_err() {
        server.change(|world| world.stopped = true);
    }
    server.roster.close();
    server.drain();
    for thread in [clients, jobs, stopper] {
        thread.join().unwrap();
    }
    server.wait_until(|world| world.threads == 0);
    let world = server.world();
    assert_eq!(
        world.jobs_done, plan.jobs,
        "a job is lost, or was run twice"
    );
    assert!(plan.stops_early || plan.breaks || world.done == plan.clients);
    for seat in &*server.seats.lock().unwrap() {
        assert!(
            seat.wait(Some(Duration::ZERO)).is_none(),
            "a task was given to nobody"
        );
    }
}

/// Plays a plan under two schedulers: a random one, and one that changes its mind rarely, which
/// finds what takes a few long delays.
fn check(plan: Plan, runs: usize) {
    let mut config = Config::default();
    config.max_steps = MaxSteps::FailAfter(50_000);
    Runner::new(RandomScheduler::new(runs), config.clone()).run(move || play(plan));
    Runner::new(PctScheduler::new(3, runs), config).run(move || play(plan));
}

const PLAN: Plan = Plan {
    max_threads: 2,
    clients: 3,
    jobs: 0,
    stops_early: false,
    breaks: false,
    waits: false,
};

#[test]
fn every_client_is_accepted_and_every_thread_ends() {
    for max_threads in 1..=3 {
        check(
            Plan {
                max_threads,
                ..PLAN
            },
            RUNS,
        );
    }
}

#[test]
fn the_supervisor_holds_the_lead_while_no_thread_can_and_hands_it_to_the_first_that_is_idle() {
    let plan = Plan {
        max_threads: 1,
        waits: true,
        ..PLAN
    };
    check(plan, RUNS);
}

#[test]
fn every_job_is_run_once_while_one_thread_leads() {
    // A single thread leads until a client comes, and a job would wait for the client, too.
    for max_threads in 2..=3 {
        let (clients, jobs) = (2, 2);
        check(
            Plan {
                max_threads,
                clients,
                jobs,
                ..PLAN
            },
            RUNS,
        );
    }
}

#[test]
fn a_stop_at_any_time_ends_every_thread_and_loses_no_job() {
    for max_threads in 1..=3 {
        check(
            Plan {
                max_threads,
                jobs: 2,
                stops_early: true,
                ..PLAN
            },
            RUNS,
        );
    }
}

#[test]
fn a_listener_that_fails_ends_every_thread() {
    check(
        Plan {
            breaks: true,
            stops_early: true,
            ..PLAN
        },
        RUNS,
    );
}

const RUNS: usize = 1000;
