//! The rules of the state machine, which the driver checks at each step.

use super::{Outcome, Run};
use crate::connection::rest::Rest;
use crate::reactor::remainder::tests::script::{Begin, Ms};
use crate::reactor::step::Wait;
use crate::state::close_reason::CloseReason;
use crate::state::timeouts::{DRAIN_GRACE, WRITE_RETRY};

const GRACE: Ms = 10;
const RETRY: Ms = 1000;

#[test]
fn the_rules_know_the_times_of_the_server() {
    assert_eq!(DRAIN_GRACE.as_millis(), u128::from(GRACE));
    assert_eq!(WRITE_RETRY.as_millis(), u128::from(RETRY));
}

impl Run<'_> {
    pub(super) fn record_close_reason(&mut self) {
        if self.ended.is_none() && self.remainder.reason() != CloseReason::Done {
            self.ended = Some(self.world.now());
            self.check_reason();
        }
    }

    /// Returns the server's reason for ending the connection.
    pub(super) fn servers_reason(&self) -> CloseReason {
        if self.world.is_stopped() {
            CloseReason::Shutdown
        } else {
            CloseReason::Lifetime
        }
    }

    /// Returns `end`, or an earlier time after a lifetime, when all waits together may take no longer than
    /// the lingering time.
    fn at_most(&self, end: Ms) -> Ms {
        let deadline = match self.remainder.reason() {
            CloseReason::Lifetime => self.write_deadline(),
            _ => None,
        };
        deadline.map_or(end, |deadline| end.min(deadline).max(self.ended.unwrap()))
    }

    /// Checks the reason at the moment when the connection ends.
    pub(super) fn check_reason(&self) {
        let now = self.world.now();
        let reason = self.remainder.reason();
        match reason {
            CloseReason::Eof => assert!(self.peer_fin_seen),
            CloseReason::Reset => assert!(self.world.is_reset()),
            CloseReason::Idle => assert!(!self.is_over()),
            CloseReason::Stalled => assert!(self.blocked.is_some()),
            CloseReason::Shutdown => assert!(self.world.is_stopped()),
            CloseReason::Lifetime => assert!(now >= self.lifetime_end().unwrap()),
            other => panic!("the machine has made up {other:?}"),
        }
        if reason.is_by_server() && self.owed.is_empty() {
            let over = self.over().unwrap();
            assert!(self.world.is_stopped() == (reason == CloseReason::Shutdown));
            // Wake-ups in the meantime must not delay the end.
            let latest = self.last_owed.map_or(over, |owed| owed.max(over)) + GRACE;
            assert!(now <= latest, "ends at {now}, not at {latest}");
            let is_carried = matches!(self.script.begin, Begin::Carry { .. });
            if is_carried && !self.received_after_over && !self.misled {
                assert_eq!(now, latest, "does not wait for what is under way");
            }
            // The server carries all input that had arrived when it began to end the connection, unless the
            // handler has counted the input.
            if is_carried {
                let arrived = self.world.arrived_by(over);
                assert!(
                    self.world.received() >= arrived,
                    "{arrived} had arrived, {} were received",
                    self.world.received()
                );
            }
            assert!(
                self.script.rest == Rest::Discard || self.world.sent() == self.world.received(),
                "what was received is not sent"
            );
        }
    }

    /// Checks that a timeout comes neither early nor late.
    pub(super) fn check_timeout(&self, reason: CloseReason) {
        let now = self.world.now();
        let times = self.script.timeouts;
        assert_eq!(self.remainder.reason(), reason);
        match reason {
            CloseReason::Idle => {
                assert!(self.owed.is_empty());
                assert_eq!(now, self.quiet + times.idle.unwrap());
                assert!(
                    times.idle == Some(0)
                        || self.world.received() >= self.world.arrived_by(now - 1),
                    "the peer was not idle"
                );
            }
            CloseReason::Stalled => {
                assert_eq!(now, self.blocked.unwrap() + times.write.unwrap());
                assert!(self.world.is_full(), "the peer was not stalled");
            }
            CloseReason::Lifetime => {
                let deadline = self.write_deadline().unwrap();
                assert_eq!(now, deadline.max(self.last_received));
            }
            other => panic!("no timeout is {other:?}"),
        }
    }

    /// Checks that the driver does not sleep past a deadline.
    pub(super) fn check_wait(&self, wait: Wait) {
        let now = self.world.now();
        let until = wait.until.map_or(Ms::MAX, |until| self.ms(until));
        let times = self.script.timeouts;
        let keeps = |what: &str, deadline: Option<Ms>| {
            let Some(deadline) = deadline else { return };
            assert!(
                now < deadline,
                "{what} was at {deadline}, and is missed at {now}"
            );
            assert!(
                until <= deadline,
                "{what} is at {deadline}, sleeps until {until}"
            );
        };
        if let Some(ended) = self.ended {
            assert!(wait.input, "does not see the peer's end");
            match self.fin {
                Some(fin) => keeps(
                    "the end of the lingering",
                    Some(self.at_most(fin + times.lingering)),
                ),
                None => keeps("the FIN", Some(self.at_most(ended + self.patience()))),
            }
        } else if self.owed.is_empty() {
            assert!(wait.input && !wait.room);
            if let Some(over) = self.over().filter(|&over| over <= now) {
                let latest = self.last_owed.map_or(over, |owed| owed.max(over));
                keeps("the grace", Some(latest + GRACE));
            } else {
                keeps("the idle timeout", times.idle.map(|idle| self.quiet + idle));
                keeps("the lifetime", self.lifetime_end());
            }
        } else {
            assert!(
                wait.room && !wait.input,
                "reads on although the peer does not"
            );
            let stalled = self.blocked.unwrap();
            keeps(
                "the write timeout",
                times.write.map(|write| stalled + write),
            );
            keeps("the next try", times.write.map(|_| self.tried + RETRY));
            keeps("the lifetime", self.write_deadline());
        }
    }

    /// Checks that the FIN comes neither early nor late.
    pub(super) fn check_fin(&self) {
        let now = self.world.now();
        let latest = self.at_most(self.ended.unwrap() + self.patience());
        assert!(now <= latest, "the FIN of {latest} is sent at {now}");
        let early = now < latest;
        assert!(
            !early
                || self.world.is_all_taken()
                || self.peer_fin_seen
                || self.peer_gone
                || self.world.is_reset()
                || !self.script.socket.can_mark,
            "the FIN of {latest} is sent at {now}, before the peer has everything"
        );
    }

    /// Checks that the close comes neither early nor late.
    pub(super) fn check_close(&self) {
        let now = self.world.now();
        let ended = self.ended.unwrap();
        if self.world.is_aborted() {
            let abort = self.script.stop.unwrap() + self.script.abort.unwrap();
            assert_eq!(now, abort, "the abort is noticed late");
            return;
        }
        let Some(fin) = self.fin else {
            assert!(matches!(
                self.remainder.reason(),
                CloseReason::Eof | CloseReason::Reset
            ));
            assert_eq!(now, ended);
            return;
        };
        assert_ne!(self.remainder.reason(), CloseReason::Eof);
        let delivered = self.remainder.is_delivered();
        let is_silent = match self.script.begin {
            Begin::Close { silent, .. } => silent,
            Begin::Arrived { .. } => false,
            Begin::Carry { .. } => {
                self.remainder.reason().is_by_server()
                    && self.owed.is_empty()
                    && !self.received_after_over
                    && !self.misled
            }
        };
        let latest = self.at_most(fin + self.script.timeouts.lingering).max(fin);
        assert!(now <= latest, "closes at {now}, not at {latest}");
        if is_silent && delivered {
            assert_eq!(now, fin, "lingers for a peer that is silent");
        } else if now < latest {
            assert!(
                self.peer_fin_seen
                    || self.peer_gone
                    || self.fin_failed
                    || (self.remainder.silent && delivered)
                    || (self.world.is_stopped() && delivered),
                "closes at {now} without a cause, not at {latest}"
            );
        }
    }

    /// Checks, when no event will ever come again, that no rule asks for one.
    pub(super) fn check_that_nothing_is_due(&self) {
        let times = self.script.timeouts;
        assert!(self.ended.is_none(), "the close never comes");
        assert!(times.lifetime.is_none());
        if self.owed.is_empty() {
            assert!(times.idle.is_none() && !self.world.is_stopped());
            assert!(!self.world.is_readable());
        } else {
            assert!(times.write.is_none());
            assert!(self.world.is_full() || !self.world.is_writable());
        }
    }

    pub(super) fn outcome(mut self, is_closed: bool) -> Outcome {
        let closed = is_closed.then_some(self.world.now());
        let reason = self.remainder.reason();
        let delivered = self.remainder.is_delivered();
        if is_closed {
            self.world.close();
        }
        let was_all_sent = self.world.sent() == self.world.received();
        while let Some(at) = self.world.next_event() {
            self.world.advance_to(at);
        }
        let echoed = self.world.taken();
        let is_echo = self.script.rest == Rest::Echo;
        if reason == CloseReason::Eof
            && !self.world.is_aborted()
            && is_echo
            && self.ended != Some(0)
        {
            assert!(was_all_sent);
            assert_eq!(self.world.received(), self.world.arrived_by(Ms::MAX));
        }
        if delivered
            && self.script.peer.takes_all.is_some()
            && !self.world.is_aborted()
            && !self.world.is_reset()
        {
            assert_eq!(
                echoed,
                self.world.sent(),
                "what counts as delivered is lost"
            );
        }
        Outcome {
            closed,
            reason,
            echoed,
            delivered,
        }
    }
}
