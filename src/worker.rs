//! The threads of a server: each follows, leads, serves the client that it accepted, and follows again.
//!
//! If the handlers never block, the leader serves each client itself and keeps the lead. So no other
//! thread has to wake up for each client.
//!
//! An idle thread is a follower. The follower that became idle last leads first, because its stack is
//! still in the processor's cache. The other followers stay idle, so that threads beyond the need reach
//! their idle timeout and end.
//!
//! If no thread is idle and none can be started, the lead goes to the supervisor: the thread that called
//! `serve_forever`. The supervisor never serves. It keeps the lead until another thread can take it.

pub(crate) mod handler;
mod roster;
pub(crate) mod session;
mod supervisor;

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::accept::{Lead, Waited, Watch};
use crate::catch::catch;
use crate::connection::Connection;
use crate::error::Error;
use crate::hand_over::hand_over_point;
use crate::reactor::carried::Carried;
use crate::reactor::{Job, Reactors, Threads, poll_loop};
use crate::state::ServerState;
use crate::thread_limit;
use handler::{HandlerError, HandlerFactory};
use roster::{Followed, Roster, Task};
use session::Hooks;

/// The time after which an idle thread ends.
///
/// It is long enough for a burst of clients to reuse the threads of the burst before. It is short enough
/// for a quiet server to have few threads soon.
const THREAD_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The place at which a thread of this crew waits for its next task.
type Seat = roster::Seat<Box<Lead>>;

/// The threads of one server.
pub(crate) struct Crew {
    state: Arc<ServerState>,
    hooks: Hooks,
    factory: HandlerFactory,
    /// Whether the leader serves its clients and keeps the lead, because nothing on the way can block.
    leader_serves: bool,
    stack_size: Option<usize>,
    reactors: Arc<Reactors>,
    roster: Roster<Box<Lead>>,
    /// This crew, for the threads that it starts.
    this: Weak<Self>,
}

impl Crew {
    pub(crate) fn new(
        state: &Arc<ServerState>,
        hooks: Hooks,
        factory: HandlerFactory,
        stack_size: Option<usize>,
        reactors: usize,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let threads: Weak<dyn Threads> = this.clone();
            Self {
                state: Arc::clone(state),
                leader_serves: factory.never_blocks && hooks.are_unset() && !state.may_block(),
                hooks,
                factory,
                stack_size,
                reactors: Arc::new(Reactors::new(Arc::clone(state), threads, reactors)),
                roster: Roster::new(),
                this: Weak::clone(this),
            }
        })
    }

    /// Makes every thread end as soon as it is idle.
    pub(crate) fn close(&self) {
        self.roster.close();
    }

    /// Makes each reactor end with its last connection.
    pub(crate) fn end_reactors(&self) {
        self.reactors.end();
    }

    /// Returns an idle thread, or starts one. The caller gives it a task or releases it.
    fn secure_follower(&self) -> io::Result<Arc<Seat>> {
        let idle = self.roster.take_idle().or_else(|| {
            // In a burst of clients another thread is about to become idle. Yielding to that thread
            // takes a tenth of the time that starting one takes.
            thread::yield_now();
            self.roster.take_idle()
        });
        idle.map_or_else(|| self.start(), Ok)
    }

    /// Starts a thread, which waits at the returned seat for its first task.
    fn start(&self) -> io::Result<Arc<Seat>> {
        let seat = Arc::new(Seat::new());
        let crew = self
            .this
            .upgrade()
            .ok_or_else(|| io::Error::other("the server has ended"))?;
        let name = self.state.prefix.thread_name("connection");
        let handle = thread_limit::spawn(&name, self.stack_size, {
            let seat = Arc::clone(&seat);
            let counted = self.state.count_thread();
            move || {
                crew.work(&seat);
                drop(counted);
            }
        })?;
        seat.assign(handle.thread());
        Ok(seat)
    }

    /// Runs one task after the other, on a thread of the crew, until the thread is to end.
    fn work(&self, seat: &Arc<Seat>) {
        hand_over_point();
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

    /// Waits for the next task, as a follower. Returns `None` after the idle timeout.
    fn follow(&self, seat: &Arc<Seat>) -> Option<Task<Box<Lead>>> {
        match self.roster.follow(seat) {
            Followed::Task(task) => return Some(task),
            Followed::Wait { wakes_supervisor } => {
                if wakes_supervisor {
                    self.state.shutdown.lead().wake();
                }
            }
        }
        loop {
            let task = seat.wait(Some(THREAD_IDLE_TIMEOUT));
            if task.is_some() || self.roster.remove(seat) {
                return task;
            }
        }
    }

    /// Leads until this thread has accepted a client that needs a thread, then hands the lead over and
    /// serves the client.
    fn lead(&self, mut lead: Box<Lead>) {
        let watched = EndServerOnPanic(self);
        let watch = Watch {
            clients: true,
            until: None,
            is_supervisor: false,
        };
        let outcome = loop {
            match lead.wait(watch) {
                Ok(Waited::Client(index)) if self.leader_serves => match lead.accept(index) {
                    Ok(Some(conn)) => {
                        if let Some(carried) = self.begin_as_leader(conn) {
                            self.hand_over(lead, self.secure_follower());
                            drop(watched);
                            return self.carry(carried);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => break Err(error),
                },
                Ok(Waited::Client(index)) => {
                    let follower = self.secure_follower();
                    let accepted = lead.accept(index);
                    if let Ok(Some(conn)) = accepted {
                        self.hand_over(lead, follower);
                        drop(watched);
                        return self.serve(conn);
                    }
                    if let Ok(seat) = follower {
                        self.roster.release(seat);
                    }
                    if let Err(error) = accepted {
                        break Err(error);
                    }
                }
                Ok(Waited::Woken | Waited::TimedOut) => {}
                Ok(Waited::Stopped) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // Close the listeners before the drain, so that the kernel refuses new clients or gives them to
        // another process that listens on the address.
        drop(lead);
        self.end_lead(outcome);
    }

    fn end_lead(&self, outcome: Result<(), Error>) {
        self.roster.end_lead(outcome);
        self.state.shutdown.supervisor().wake();
    }

    /// Hands the lead to the follower, or to the supervisor if there is no follower.
    fn hand_over(&self, lead: Box<Lead>, follower: io::Result<Arc<Seat>>) {
        match follower {
            Ok(seat) => seat.give(Task::Lead(lead)),
            Err(why) => {
                if self.roster.return_lead(lead, why) {
                    self.state.shutdown.supervisor().wake();
                }
            }
        }
    }

    /// Runs the handler of a connection on this thread, then leaves the connection to a reactor, or
    /// carries it to its close.
    fn serve(&self, conn: Box<Connection>) {
        if let Some(carried) = self.begin(conn, true) {
            self.carry(carried);
        }
    }

    /// Begins to serve a connection as the leader. Returns the connection if it needs a thread after all.
    fn begin_as_leader(&self, conn: Box<Connection>) -> Option<Carried> {
        // A panic here is a bug of this crate. It must end only this connection, not the server.
        catch(|| self.begin(conn, false)).unwrap_or_else(|message| {
            let prefix = &self.state.prefix;
            log::error!(
                service = prefix;
                "{prefix}the leader panicked on a connection, and closed it: {message}"
            );
            None
        })
    }

    /// Runs the handler of a connection on this thread, then leaves the connection to a reactor. Returns
    /// the connection if no reactor can take it. `may_poll`: no other client waits for this thread.
    fn begin(&self, conn: Box<Connection>, may_poll: bool) -> Option<Carried> {
        let conn = self.hooks.admit(conn).ok()?;
        let (conn, wish) = self.hooks.serve(conn, &*self.factory.make);
        let carried = Carried::new(conn, wish, Instant::now());
        let report = |conn: &Connection, error| self.report(conn, error);
        self.reactors.take(carried, may_poll, &report)
    }

    fn carry(&self, carried: Carried) {
        poll_loop::carry(carried, &|conn, error| self.report(conn, error));
    }
}

/// Ends the server if the leader panics, which would be a bug of this crate.
///
/// The panic drops the lead. Without this, the supervisor would wait for the lead for ever.
struct EndServerOnPanic<'c>(&'c Crew);

impl Drop for EndServerOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let cause = io::Error::other("the thread that accepts has panicked");
            self.0.end_lead(Err(Error::new("cannot serve", cause)));
        }
    }
}

impl Threads for Crew {
    fn try_run(&self, job: Job) -> bool {
        match self.secure_follower() {
            Ok(seat) => {
                seat.give(Task::Do(job));
                true
            }
            Err(_) => false,
        }
    }

    fn run(&self, job: Job) {
        if let Ok(seat) = self.secure_follower() {
            seat.give(Task::Do(job));
        } else {
            self.roster.add_job(job);
            self.state.shutdown.supervisor().wake();
        }
    }

    fn has_error_hook(&self) -> bool {
        self.hooks.handle_error.is_some()
    }

    fn report(&self, conn: &Connection, error: io::Error) {
        self.hooks.report(conn, &HandlerError::Error(error));
    }
}
