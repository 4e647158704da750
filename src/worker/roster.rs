//! The roster of a server's threads: which are idle, which jobs wait for one, and where the lead is.
//!
//! The lead passes from thread to thread as a value of the type `L`. Each thread waits for its next task
//! at its own seat, so that the roster decides which thread is woken.

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
    /// Run the job.
    Do(Job),
    End,
}

/// The place at which one thread waits for its next task.
pub(super) struct Seat<L> {
    task: Mutex<Option<Task<L>>>,
    /// The thread that waits here. Set by the thread that starts it, before any other can give it a task.
    thread: OnceLock<Thread>,
}

impl<L> Seat<L> {
    pub(super) fn new() -> Self {
        Self {
            task: Mutex::new(None),
            thread: OnceLock::new(),
        }
    }

    /// Sets the thread that waits here.
    pub(super) fn assign(&self, thread: &Thread) {
        self.thread.get_or_init(|| thread.clone());
    }

    /// Gives the thread its next task, and wakes the thread.
    pub(super) fn give(&self, task: Task<L>) {
        *lock(&self.task) = Some(task);
        hand_over_point();
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Waits for a task, for at most `timeout`, or without limit.
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
    /// The followers, in the order in which they became idle. The last one leads first.
    idle: Vec<Arc<Seat<L>>>,
    /// Jobs that wait for a thread, because no thread was idle and none could be started.
    jobs: VecDeque<Job>,
    /// The lead until the supervisor takes it, and the error because of which no thread could.
    returned: Option<(L, io::Error)>,
    /// Whether the supervisor holds the lead, so that a thread that becomes idle must wake it.
    supervisor_leads: bool,
    /// How the lead has ended, until the supervisor takes the result.
    outcome: Option<Result<(), Error>>,
    /// Whether threads end as soon as they are idle.
    closed: bool,
}

/// What a thread does after it has finished its task.
pub(super) enum Followed<L> {
    Task(Task<L>),
    /// Wait at its seat. If `wakes_supervisor`, first wake the supervisor, which holds the lead and can now
    /// hand it to this thread.
    Wait {
        wakes_supervisor: bool,
    },
}

/// What the supervisor finds on the roster.
pub(super) enum Found<L> {
    /// The lead, because no other thread could take it: this error kept one from starting.
    Lead(L, io::Error),
    /// The result of the lead, which has ended.
    Outcome(Result<(), Error>),
    /// Nothing, because another thread leads.
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

    /// Takes the thread that became idle last off the roster. The caller must give it a task or
    /// [release](Self::release) it.
    pub(super) fn take_idle(&self) -> Option<Arc<Seat<L>>> {
        self.lock().idle.pop()
    }

    /// Returns what a thread does after it has finished its task. If the thread is to wait, it is now idle.
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

    /// Takes a thread off the roster whose idle timeout is over. Returns `false` if another thread has just
    /// taken it off the roster. That thread will give it a task, or release it to be idle again.
    pub(super) fn remove(&self, seat: &Arc<Seat<L>>) -> bool {
        let mut inner = self.lock();
        let index = inner.idle.iter().position(|other| Arc::ptr_eq(other, seat));
        index.map(|index| inner.idle.remove(index)).is_some()
    }

    /// Makes a thread idle again that was taken off the roster but got no task.
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

    /// Hands the lead to a thread that has become idle meanwhile, or stores it for the supervisor. Returns
    /// whether the caller must wake the supervisor.
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

    /// Stores the result of the lead, which has ended, for the supervisor.
    pub(super) fn end_lead(&self, outcome: Result<(), Error>) {
        self.lock().outcome = Some(outcome);
    }

    /// Takes what the supervisor must act on: the result of the lead, or the lead itself.
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

    /// Returns an idle thread for the lead that the supervisor holds. If no thread is idle, the next that
    /// becomes idle wakes the supervisor.
    pub(super) fn take_idle_for_lead(&self) -> Option<Arc<Seat<L>>> {
        let mut inner = self.lock();
        let seat = inner.idle.pop();
        inner.supervisor_leads = seat.is_none();
        seat
    }

    /// Notes that the supervisor has handed the lead to a new thread.
    pub(super) fn supervisor_has_handed_over(&self) {
        self.lock().supervisor_leads = false;
    }

    /// Gives a job to a thread that has become idle meanwhile, or stores it for the next thread that
    /// becomes idle.
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

    /// Makes every thread end as soon as it is idle.
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
