//! The supervisor: the thread that called `serve_forever`. It starts with the lead, and holds the lead
//! whenever no other thread can.

use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Crew;
use super::roster::{Found, Task};
use crate::accept::outcome::Shortage;
use crate::accept::{Lead, Waited, Watch, warn_of_shortage};
use crate::connection::Connection;
use crate::error::Error;
use crate::state::close_reason::CloseReason;
use crate::state::resource::Resource;
use crate::state::shutdown::Phase;

/// How long the supervisor waits for the leader after a request to stop.
///
/// A leader returns within milliseconds, unless it serves with a handler that blocks although it said that
/// it never does. Then the drain must begin without the leader, so that it can abort that connection, too.
const LEAD_GRACE: Duration = Duration::from_millis(500);

/// What the supervisor has done with the lead that it held.
enum Held {
    Kept(Box<Lead>),
    HandedOver,
    Stopped,
}

impl Crew {
    /// Supervises until a stop is requested, on the thread that called `serve_forever`. On return the
    /// listeners are closed, unless a handler blocks the leader.
    ///
    /// # Errors
    ///
    /// A listener has become unusable, or `poll(2)` has failed.
    pub(crate) fn supervise(&self, mut lead: Box<Lead>) -> Result<(), Error> {
        lead.reject_into(Arc::clone(&self.reactors));
        let mut shortage = Shortage::default();
        let mut held = Some(lead);
        loop {
            held = match held {
                Some(lead) => match self.lead_without_serving(lead, &mut shortage)? {
                    Held::Kept(lead) => Some(lead),
                    Held::HandedOver => None,
                    Held::Stopped => return Ok(()),
                },
                None => match self.roster.find() {
                    Found::Outcome(outcome) => return outcome,
                    Found::Lead(lead, why) => {
                        self.note_shortage(&mut shortage, &why);
                        Some(lead)
                    }
                    Found::Nothing => {
                        let grace_end = self.state.shutdown.deadline(LEAD_GRACE);
                        if grace_end.is_some_and(|end| Instant::now() >= end) {
                            return Ok(());
                        }
                        self.wait_while_a_thread_leads(&mut shortage, grace_end)?;
                        None
                    }
                },
            }
        }
    }

    /// Waits with the lead until a thread can take it. Accepts no client meanwhile, except to reject it.
    fn lead_without_serving(
        &self,
        mut lead: Box<Lead>,
        shortage: &mut Shortage,
    ) -> Result<Held, Error> {
        let pause_end = self.start_for_jobs(shortage);
        if let Some(seat) = self.roster.take_idle_for_lead() {
            seat.give(Task::Lead(lead));
            return Ok(Held::HandedOver);
        }
        let watch = Watch {
            clients: pause_end.is_none(),
            until: pause_end,
            is_supervisor: true,
        };
        match lead.wait(watch)? {
            Waited::Woken | Waited::TimedOut => Ok(Held::Kept(lead)),
            Waited::Stopped => Ok(Held::Stopped),
            Waited::Client(_) => match self.start() {
                Ok(seat) => {
                    shortage.end();
                    self.roster.supervisor_has_handed_over();
                    seat.give(Task::Lead(lead));
                    Ok(Held::HandedOver)
                }
                Err(error) => {
                    self.note_shortage(shortage, &error);
                    Ok(Held::Kept(lead))
                }
            },
        }
    }

    /// Sleeps while another thread leads, at most until `grace_end`.
    fn wait_while_a_thread_leads(
        &self,
        shortage: &mut Shortage,
        grace_end: Option<Instant>,
    ) -> Result<(), Error> {
        let pause_end = self.start_for_jobs(shortage);
        let pause_end = pause_end.filter(|_| self.roster.has_jobs());
        let end = pause_end.into_iter().chain(grace_end).min();
        let timeout = end.map(|end| end.saturating_duration_since(Instant::now()));
        self.state
            .shutdown
            .supervisor()
            .sleep(timeout)
            .map_err(|error| Error::new("cannot wait for connections", error))
    }

    /// Starts a thread for each job that waits for one, unless threads are short. Returns when the pause
    /// of a shortage ends.
    fn start_for_jobs(&self, shortage: &mut Shortage) -> Option<Instant> {
        let now = Instant::now();
        let mut pause_end = shortage.pause_end(now);
        while pause_end.is_none() && self.roster.has_jobs() {
            match self.start() {
                Ok(seat) => {
                    shortage.end();
                    self.roster.release(seat);
                }
                Err(error) => {
                    self.note_shortage(shortage, &error);
                    pause_end = shortage.pause_end(now);
                }
            }
        }
        pause_end
    }

    /// Starts a thread to serve a connection that another program has accepted, and tries again while
    /// threads are short. If a stop is requested before that, closes the connection.
    pub(crate) fn serve_one(&self, conn: Box<Connection>) -> Result<(), Error> {
        let mut shortage = Shortage::default();
        loop {
            let error = match self.start() {
                Ok(seat) => {
                    seat.give(self.serve_task(conn));
                    return Ok(());
                }
                Err(error) => error,
            };
            self.note_shortage(&mut shortage, &error);
            while let Some(end) = shortage.pause_end(Instant::now()) {
                if self.state.shutdown.phase() != Phase::Serving {
                    conn.close(CloseReason::Shutdown);
                    return Ok(());
                }
                self.state
                    .shutdown
                    .supervisor()
                    .sleep(Some(end.saturating_duration_since(Instant::now())))
                    .map_err(|error| Error::new("cannot wait for a thread", error))?;
            }
        }
    }

    /// Runs the jobs that wait for a thread: on new threads, or on this one if none can be started. Only a
    /// server that accepts no more calls this, because a job may block.
    pub(crate) fn run_jobs(&self) {
        while let Some(job) = self.roster.take_job() {
            match self.start() {
                Ok(seat) => seat.give(Task::Do(job)),
                Err(_) => job(),
            }
        }
    }

    fn note_shortage(&self, shortage: &mut Shortage, error: &io::Error) {
        self.state.count_shortage(Resource::Threads);
        if shortage.begin_pause(Instant::now()) {
            warn_of_shortage(&self.state.prefix, "start a thread", error);
        }
    }

    /// Returns the task to serve a connection that another program has accepted.
    fn serve_task(&self, conn: Box<Connection>) -> Task<Box<Lead>> {
        let this = Weak::clone(&self.this);
        Task::Do(Box::new(move || {
            if let Some(crew) = this.upgrade() {
                crew.serve(conn);
            }
        }))
    }
}
