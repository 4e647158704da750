//! The methods of the crew in `worker.rs` and `worker/supervisor.rs`, repeated step by step. The
//! model has no clock, so its supervisor waits for the leader without a limit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;

use super::world::{Lead, Waited, Watch, coin};
use super::{Seat, Server};
use crate::error::Error;
use crate::reactor::Job;
use crate::worker::roster::{Followed, Found, Task};

enum Held {
    Kept(Lead),
    HandedOver,
    Stopped,
}

impl Server {
    pub(super) fn supervise(self: &Arc<Self>, lead: Lead) -> Result<(), Error> {
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
        self.start_for_jobs(pauses);
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
        self.start_for_jobs(pauses);
        let times_out = *pauses && self.roster.has_jobs();
        if self.sleep(times_out) {
            *pauses = false;
        } else if *pauses {
            // The pause may have ended during the sleep.
            *pauses = coin(0.5);
        }
    }

    fn start_for_jobs(self: &Arc<Self>, pauses: &mut bool) {
        while !*pauses && self.roster.has_jobs() {
            match self.start() {
                Ok(seat) => self.roster.release(seat),
                Err(_) => *pauses = true,
            }
        }
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
        loop {
            // The model has no clock, so the idle timeout may end at any time.
            let is_over = !self.plan.waits && coin(0.3);
            let task = seat.wait(is_over.then_some(Duration::ZERO));
            if task.is_some() || self.roster.remove(seat) {
                return task;
            }
        }
    }

    fn lead(self: &Arc<Self>, mut lead: Lead) {
        let watch = Watch {
            clients: true,
            times_out: false,
            is_supervisor: false,
        };
        let outcome = loop {
            match lead.wait(watch) {
                Waited::Client if self.plan.leader_serves => match lead.accept() {
                    Ok(true) => {
                        // Sometimes no reactor can take the connection.
                        if coin(0.5) {
                            self.hand_over(lead, self.secure_follower());
                            return self.serve();
                        }
                        self.finish_one();
                    }
                    Ok(false) => {}
                    Err(error) => break Err(error),
                },
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

    pub(super) fn try_run(self: &Arc<Self>, job: Job) -> bool {
        match self.secure_follower() {
            Ok(seat) => {
                seat.give(Task::Do(job));
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn run(self: &Arc<Self>, job: Job) {
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

    /// Waits until no connection is live, as `drain` does.
    pub(super) fn drain(self: &Arc<Self>) {
        while self.world().busy > 0 {
            self.run_jobs();
            if self.world().busy > 0 {
                self.sleep(false);
            }
        }
    }
}
