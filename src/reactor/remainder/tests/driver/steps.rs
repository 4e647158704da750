//! Takes the steps of the machine in the simulated world, and checks the rules for each.

use super::{Next, Run};
use crate::connection::rest::Rest;
use crate::reactor::remainder::tests::script::{Begin, Ms};
use crate::reactor::remainder::tests::world::{Received, Sent};
use crate::reactor::step::{Moment, Ready, Step};
use crate::state::close_reason::CloseReason;

/// The most steps in a row that neither move bytes nor wait. The longest such way leads from the end of
/// the grace to the close.
const MAX_STEPS: u32 = 12;

impl Run<'_> {
    /// Takes all steps that can be taken without waiting, as `Carried::advance` does.
    pub(super) fn advance(&mut self, ready: Ready) -> Next {
        if self.world.is_aborted() {
            let before = self.remainder.reason();
            self.remainder.abort(self.servers_reason());
            let reason = if self.ended.is_some() {
                before
            } else {
                self.servers_reason()
            };
            assert_eq!(self.remainder.reason(), reason);
            self.ended.get_or_insert(self.world.now());
        }
        self.remainder.ready(ready);
        let next = self.take_steps();
        if self.remainder.is_delivered() {
            assert!(
                self.world.is_all_taken()
                    || self.peer_fin_seen
                    || self.world.is_reset()
                    || matches!(
                        self.script.begin,
                        Begin::Close {
                            reason: CloseReason::Eof,
                            ..
                        }
                    ),
                "not everything was delivered"
            );
        }
        next
    }

    #[allow(clippy::too_many_lines, reason = "one arm for each step")]
    fn take_steps(&mut self) -> Next {
        let timeouts = self.timeouts;
        let now_ms = self.world.now();
        let now = self.at(now_ms);
        let moment = &Moment {
            now,
            accepted: self.accepted,
            stopping: self.world.is_stopped(),
            asked_to_close: self.world.is_stopped(),
            close_end: None,
            timeouts: &timeouts,
        };
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps <= MAX_STEPS, "no end of steps at {now_ms}");
            assert!(
                self.ended.is_some() || self.remainder.owed == self.owed.len(),
                "the machine and its driver differ in what is owed"
            );
            if !self.owed.is_empty() && self.ended.is_none() {
                self.last_owed = Some(now_ms);
            }
            let step = self.remainder.next(moment);
            // The machine may have ended the connection by itself.
            self.record_close_reason();
            match step {
                Step::Receive { at_most } => {
                    assert!(self.owed.is_empty(), "receives while something is owed");
                    assert!(self.ended.is_none(), "receives after the end");
                    match self.world.receive(at_most.min(self.script.buffer)) {
                        Received::Bytes(bytes) => {
                            steps = 0;
                            assert!(self.most.is_none_or(|most| bytes.end <= most));
                            self.received_after_over |= now_ms >= self.over().unwrap_or(Ms::MAX);
                            self.last_received = now_ms;
                            self.quiet = now_ms;
                            self.remainder.received(bytes.len(), now);
                            if self.script.rest == Rest::Echo {
                                self.owed = bytes;
                                self.blocked = None;
                            }
                        }
                        Received::Nothing => self.remainder.nothing_came(),
                        Received::Fin => {
                            self.peer_fin_seen = true;
                            self.remainder.eof(moment);
                            self.record_close_reason();
                        }
                        Received::Reset => {
                            self.remainder.fail(CloseReason::Reset, moment);
                            self.record_close_reason();
                            return Next::Again;
                        }
                    }
                }
                Step::Send => {
                    assert!(!self.owed.is_empty(), "sends what is not there");
                    assert!(self.script.rest == Rest::Echo);
                    match self.world.send(self.owed.clone()) {
                        Sent::Bytes(n) => {
                            steps = 0;
                            self.owed.start += n;
                            self.blocked = None;
                            if self.owed.is_empty() {
                                self.quiet = now_ms;
                            }
                            self.remainder.sent(n, now);
                        }
                        Sent::NoRoom => {
                            self.tried = now_ms;
                            self.blocked.get_or_insert(now_ms);
                            self.remainder.no_room(now);
                        }
                        Sent::Gone => {
                            self.remainder.fail(CloseReason::Reset, moment);
                            self.record_close_reason();
                            return Next::Again;
                        }
                    }
                }
                Step::CountArrived => {
                    let arrived = self.world.arrived();
                    if arrived > 0 {
                        self.most = Some(self.world.received() + arrived);
                    }
                    self.remainder.arrived(arrived as u64);
                }
                Step::MarkUnsent => {
                    let done = self.world.mark_unsent();
                    self.remainder.marked(done);
                }
                Step::MarkInFlight => {
                    let done = self.world.mark_in_flight();
                    self.remainder.marked(done);
                }
                Step::CheckRoom => self.remainder.writable(self.world.is_writable()),
                Step::Discard => {
                    assert!(self.ended.is_some(), "drops input of a live connection");
                    match self.world.receive(self.script.buffer) {
                        Received::Bytes(bytes) => {
                            steps = 0;
                            self.remainder.received(bytes.len(), now);
                        }
                        Received::Nothing => self.remainder.nothing_came(),
                        Received::Fin => {
                            self.peer_fin_seen = true;
                            self.remainder.eof(moment);
                            assert!(self.fin.is_some() || self.remainder.is_delivered());
                        }
                        Received::Reset => {
                            self.peer_gone = true;
                            self.remainder.gone();
                        }
                    }
                }
                Step::SendFin => {
                    self.check_fin();
                    let sent = self.world.send_fin();
                    self.fin = Some(now_ms);
                    self.fin_failed = !sent;
                    self.remainder.fin_sent(sent, moment);
                }
                Step::TimedOut(reason) => {
                    self.check_timeout(reason);
                    return Next::Again;
                }
                Step::Lend => return Next::Lend,
                Step::Wait(wait) => return Next::Wait(wait),
                Step::Close => {
                    self.check_close();
                    return Next::Close;
                }
            }
        }
    }
}
