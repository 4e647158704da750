//! The roster under a model checker, which tries many interleavings of its threads.
//!
//! The methods in [`crew`] repeat those of `worker.rs` and `worker/supervisor.rs` with the same names, step by
//! step. Only the sockets are replaced, by a count of waiting clients ([`world`]). The checker reports a thread that waits for
//! ever as a deadlock. So it finds a lost lead, a client that no thread accepts, a missing wake-up, and a
//! thread that never ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::struct_excessive_bools,
    clippy::option_option,
    reason = "a test fails by panicking, and a world is a list of facts"
)]

mod crew;
mod world;

use std::sync::Arc;
use std::time::Duration;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Config, MaxSteps, Runner, thread};

use super::Roster;
use world::{Lead, World, coin};

type Seat = super::Seat<Lead>;

/// The parameters of a run of the model.
#[derive(Clone, Copy)]
struct Plan {
    max_threads: usize,
    clients: usize,
    jobs: usize,
    /// Whether the stop comes at any time, instead of after the last client and job.
    stops_early: bool,
    /// Whether a listener may become unusable.
    breaks: bool,
    /// Whether the handlers never block, so that the leader serves.
    leader_serves: bool,
    /// Whether idle threads stay and a pause never ends, so that only a wake-up can end a wait of the
    /// supervisor.
    waits: bool,
    /// Whether a handler ends only after all jobs, and another server of the process has all threads except
    /// one until the supervisor holds the lead.
    waits_for_jobs: bool,
}

/// The crew, and the world around it.
struct Server {
    plan: Plan,
    roster: Roster<Lead>,
    world: Mutex<World>,
    changed: Condvar,
    seats: Mutex<Vec<Arc<Seat>>>,
}

/// Runs one server from its start to its end.
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
    // The reactor needs a thread for each job. A job counts as a busy connection until it is done, as in
    // the real server, where the job holds the connection's slot.
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
    let others = if plan.waits_for_jobs {
        plan.max_threads - 1
    } else {
        0
    };
    server.world().threads += others;
    let other_server = thread::spawn({
        let server = Arc::clone(&server);
        move || {
            server.wait_until(|world| world.supervisor_led || world.stopped);
            server.change(|world| world.threads -= others);
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
    // Only a broken listener makes the outcome an error.
    let outcome = server.supervise(lead);
    assert!(plan.breaks || outcome.is_ok());
    if outcome.is_err() {
        server.change(|world| world.stopped = true);
    }
    server.roster.close();
    server.drain();
    for thread in [clients, jobs, other_server, stopper] {
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
            "no thread has taken a task"
        );
    }
}

/// Runs a plan under two schedulers. One switches threads at random. The other switches rarely, and so
/// finds bugs that need a few long delays.
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
    leader_serves: false,
    waits: false,
    waits_for_jobs: false,
};

#[test]
fn every_client_is_accepted_and_every_thread_ends() {
    for max_threads in 1..=3 {
        for leader_serves in [false, true] {
            check(
                Plan {
                    max_threads,
                    leader_serves,
                    ..PLAN
                },
                RUNS,
            );
        }
    }
}

#[test]
fn the_supervisor_holds_the_lead_while_no_thread_can_and_hands_it_to_the_first_that_is_idle() {
    for leader_serves in [false, true] {
        let plan = Plan {
            max_threads: 1,
            leader_serves,
            waits: true,
            ..PLAN
        };
        check(plan, RUNS);
    }
}

#[test]
fn every_job_is_run_once_while_one_thread_leads() {
    // With one thread, which leads until a client comes, a job would have to wait for a client.
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
fn jobs_are_run_once_threads_are_no_longer_short_though_the_supervisor_holds_the_lead() {
    // One thread serves, one leads, and one is for the jobs.
    let plan = Plan {
        max_threads: 3,
        clients: 1,
        jobs: 2,
        waits_for_jobs: true,
        ..PLAN
    };
    check(plan, RUNS);
}

#[test]
fn a_stop_at_any_time_ends_every_thread_and_loses_no_job() {
    for max_threads in 1..=3 {
        for leader_serves in [false, true] {
            check(
                Plan {
                    max_threads,
                    jobs: 2,
                    stops_early: true,
                    leader_serves,
                    ..PLAN
                },
                RUNS,
            );
        }
    }
}

#[test]
fn a_listener_that_fails_ends_every_thread() {
    for leader_serves in [false, true] {
        check(
            Plan {
                breaks: true,
                stops_early: true,
                leader_serves,
                ..PLAN
            },
            RUNS,
        );
    }
}

const RUNS: usize = 1000;
