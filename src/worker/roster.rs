//! Who is idle, who leads next, and what waits for a thread: all that the threads of a server
//! tell each other.
//!
//! The lead passes from thread to thread as a value of the type `L`. Each thread waits at a seat
//! of its own for its next task, so that the roster decides which thread is woken.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::hand_over::hand_over_point;
use crate::reactor::Job;
use crate::sync::thread::{self, Thread};
use crate::sync::{Mutex, MutexGuard};

#[cfg(all(test, shuttle))]
mod model;

/// What a thread does next.
pub(super) enum Task<L> {
    /// Wait for a client as the leader.
    Lead(L),
    Do(Job),
    End,
}

/// Where a thread waits for its next task.
pub(super) struct Seat<L> {
    task: Mutex<Option<Task<L>>>,
    /// Set by the starter of the thread, before any other thread knows the seat.
    thread: OnceLock<Thread>,
}

impl<L> Seat<L> {
    pub(super) fn new() -> Self {
        Self {
            task: Mutex::new(None),
            thread: OnceLock::new(),
        }
    }

    /// Says which thread waits here.
    pub(super) fn assign(&self, thread: &Thread) {
        self.thread.get_or_init(|| thread.clone());
    }

    pub(super) fn give(&self, task: Task<L>) {
        *lock(&self.task) = Some(task);
        hand_over_point();
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits for a task, for at most `timeout`.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> Option<Task<L>> {
        let start = Instant::now();
        loop {
            if let Some(task) = lock(&self.task).take() {
                return Some(task);
            }
            match timeout.map(|timeout| timeout.saturating_sub(start.elapsed())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    }
}

/// The roster of one server.
pub(super) struct Roster<L>(Mutex<Inner<L>>);

struct Inner<L> {
    /// The followers. The last one leads first.
    idle: Vec<Arc<Seat<L>>>,
    /// Jobs for which no thread could be had.
    jobs: VecDeque<Job>,
    /// The lead on its way to the supervisor, and why no thread could have it.
    returned: Option<(L, io::Error)>,
    /// Whether the supervisor holds the lead, and would hand it to a thread that becomes idle.
    supervisor_leads: bool,
    /// How the lead has ended.
    outcome: Option<Result<(), Error>>,
    /// Whether threads end as soon as they are idle.
    closed: bool,
}

/// What a thread that has finished its task does.
pub(super) enum Followed<L> {
    Task(Task<L>),
    /// Wait at its seat. `wakes_supervisor`: the supervisor holds the lead, and must hear of it.
    Wait {
        wakes_supervisor: bool,
    },
}

/// What the supervisor finds.
pub(super) enum Found<L> {
    /// No thread can have the lead, for this reason.
    Lead(L, io::Error),
    /// The lead has ended.
    Outcome(Result<(), Error>),
    /// A thread leads.
    Nothing,
}

impl<L> Roster<L> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            idle: Vec::new(),
            jobs: VecDeque::new(),
            returned: None,
            supervisor_leads: false,
            outcome: None,
            closed: false,
        }))
    }

    /// Takes the thread off the roster that became idle last. The caller gives it a task, or
    /// [releases](Self::release) it.
    pub(super) fn take_idle(&self) -> Option<Arc<Seat<L>>> {
        self.lock().idle.pop()
    }

    /// Returns what a thread does next that has finished its task.
    pub(super) fn follow(&self, seat: &Arc<Seat<L>>) -> Followed<L> {
        let mut inner = self.lock();
        if let Some(job) = inner.jobs.pop_front() {
            return Followed::Task(Task::Do(job));
        }
        if let Some((lead, _)) = inner.returned.take() {
            return Followed::Task(Task::Lead(lead));
        }
        if inner.closed {
            return Followed::Task(Task::End);
        }
        inner.idle.push(Arc::clone(seat));
        Followed::Wait {
            wakes_supervisor: inner.supervisor_leads,
        }
    }

    /// Takes a thread off the roster that has been idle for long. Returns `false` if another thread
    /// has just done that: then a task is on its way.
    pub(super) fn leave(&self, seat: &Arc<Seat<L>>) -> bool {
        let mut inner = self.lock();
        let place = inner.idle.iter().position(|other| Arc::ptr_eq(other, seat));
        place.map(|place| inner.idle.remove(place)).is_some()
    }

    /// Makes a thread idle again that was taken off the roster and is not needed.
    pub(super) fn release(&self, seat: Arc<Seat<L>>) {
        let mut inner = self.lock();
        let task = match inner.jobs.pop_front() {
            Some(job) => Task::Do(job),
            None if inner.closed => Task::End,
            None => return inner.idle.push(seat),
        };
        drop(inner);
        seat.give(task);
    }

    /// Hands the lead to a thread that has become idle in the meantime, or leaves it for the
    /// supervisor. Returns whether the supervisor must be woken.
    pub(super) fn return_lead(&self, lead: L, why: io::Error) -> bool {
        let mut inner = self.lock();
        let Some(seat) = inner.idle.pop() else {
            inner.returned = Some((lead, why));
            return true;
        };
        drop(inner);
        seat.give(Task::Lead(lead));
        false
    }

    /// Notes how the lead has ended.
    pub(super) fn end_lead(&self, outcome: Result<(), Error>) {
        self.lock().outcome = Some(outcome);
    }

    /// Looks for something that the supervisor must do.
    pub(super) fn find(&self) -> Found<L> {
        let mut inner = self.lock();
        if let Some(outcome) = inner.outcome.take() {
            return Found::Outcome(outcome);
        }
        match inner.returned.take() {
            Some((lead, why)) => {
                inner.supervisor_leads = true;
                Found::Lead(lead, why)
            }
            None => Found::Nothing,
        }
    }

    /// Returns an idle thread for the lead that the supervisor holds. If there is none, a thread
    /// that becomes idle wakes the supervisor.
    pub(super) fn take_idle_for_lead(&self) -> Option<Arc<Seat<L>>> {
        let mut inner = self.lock();
        let seat = inner.idle.pop();
        inner.supervisor_leads = seat.is_none();
        seat
    }

    /// Notes that a new thread leads.
    pub(super) fn supervisor_has_handed_over(&self) {
        self.lock().supervisor_leads = false;
    }

    /// Gives a job to a thread that has become idle in the meantime, or leaves it for the next thread
    /// that has nothing else to do.
    pub(super) fn add_job(&self, job: Job) {
        let mut inner = self.lock();
        let Some(seat) = inner.idle.pop() else {
            return inner.jobs.push_back(job);
        };
        drop(inner);
        seat.give(Task::Do(job));
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.lock().jobs.is_empty()
    }

    pub(super) fn take_job(&self) -> Option<Job> {
        self.lock().jobs.pop_front()
    }

    /// Lets every thread end as soon as it is idle.
    pub(super) fn close(&self) {
        let idle = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.idle)
        };
        for seat in idle {
            seat.give(Task::End);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<L>> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    hand_over_point();
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    hand_over_point();
    guard
}
