//! The driver of the tests. It takes each step as [`Carried`](crate::reactor::carried::Carried) does, and
//! sleeps in simulated time.

mod rules;
mod steps;

use std::ops::Range;
use std::time::{Duration, Instant};

use super::script::{Begin, Ms, Script, Times};
use super::world::World;
use crate::connection::rest::Rest;
use crate::reactor::remainder::Remainder;
use crate::reactor::step::{Moment, Ready, Wait};
use crate::state::close_reason::CloseReason;
use crate::state::timeouts::Timeouts;

/// The most times that the driver may be woken at one instant if no bytes move.
const MAX_TURNS: u32 = 8;

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// When the connection was closed. `None`: it is open, and nothing will ever happen to it again.
    pub(super) closed: Option<Ms>,
    pub(super) reason: CloseReason,
    /// The number of bytes that the peer got in all.
    pub(super) echoed: usize,
    pub(super) delivered: bool,
}

/// The driver, and the facts that its checks need.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact that a rule needs"
)]
struct Run<'s> {
    script: &'s Script,
    world: World<'s>,
    timeouts: Timeouts,
    base: Instant,
    accepted: Instant,
    remainder: Remainder,
    /// The positions of the bytes that were received and are still to be sent.
    owed: Range<usize>,
    /// When bytes were last received, or when the socket took the last owed byte.
    quiet: Ms,
    last_received: Ms,
    /// When bytes were last owed.
    last_owed: Option<Ms>,
    /// When a send first found no room, if no later one has found room.
    blocked: Option<Ms>,
    /// When a send last found no room.
    tried: Ms,
    /// The position up to which the server may receive, once it has counted what had arrived.
    most: Option<usize>,
    /// When the connection ended.
    ended: Option<Ms>,
    fin: Option<Ms>,
    fin_failed: bool,
    peer_fin_seen: bool,
    peer_gone: bool,
    /// Whether a wake-up claimed input that did not exist.
    misled: bool,
    /// Whether bytes were received after the server had begun to end the connection.
    received_after_over: bool,
}

enum Next {
    Wait(Wait),
    Again,
    Lend,
    Close,
}

pub(super) fn run(script: &Script) -> Outcome {
    Run::new(script).play()
}

impl<'s> Run<'s> {
    fn new(script: &'s Script) -> Self {
        let times = script.timeouts;
        let timeouts = Timeouts {
            output_is_activity: false,
            idle: times.idle.map(Duration::from_millis),
            write: times.write.map(Duration::from_millis),
            lifetime: times.lifetime.map(Duration::from_millis),
            lingering: Duration::from_millis(times.lingering),
            busy_poll: Duration::ZERO,
            drain: Duration::from_millis(times.drain),
        };
        let base = Instant::now() + Duration::from_millis(script.age);
        let accepted = base.checked_sub(Duration::from_millis(script.age)).unwrap();
        let mut world = World::new(script);
        world.advance_to(0);
        let moment = Moment {
            now: base,
            accepted,
            stopping: world.is_stopped(),
            asked_to_close: world.is_stopped(),
            close_end: None,
            timeouts: &timeouts,
        };
        let (remainder, owed) = match script.begin {
            Begin::Carry { unread } => (Remainder::carry(script.rest, unread, base), unread),
            Begin::Arrived { unread, left, .. } => {
                let remainder = Remainder::carry(script.rest, unread, base);
                (remainder.with_arrived(left as u64, false), unread)
            }
            Begin::Close { reason, silent, .. } => (Remainder::close(reason, silent, &moment), 0),
        };
        let most = match script.begin {
            Begin::Arrived { left, .. } => Some(world.received() + left),
            Begin::Carry { .. } | Begin::Close { .. } => None,
        };
        let owed = match script.rest {
            Rest::Echo => world.received() - owed..world.received(),
            Rest::Discard => 0..0,
        };
        Self {
            script,
            world,
            timeouts,
            base,
            accepted,
            remainder,
            last_owed: (!owed.is_empty()).then_some(0),
            owed,
            quiet: 0,
            last_received: 0,
            blocked: None,
            tried: 0,
            most,
            ended: matches!(script.begin, Begin::Close { .. }).then_some(0),
            fin: None,
            fin_failed: false,
            peer_fin_seen: false,
            peer_gone: false,
            misled: false,
            received_after_over: false,
        }
    }

    /// Drives the machine until its close, or until nothing more can happen.
    fn play(mut self) -> Outcome {
        let mut ready = Ready::default();
        // When the driver asks for a step even if no event comes.
        let mut alarm: Option<Ms> = None;
        let mut turns = 0;
        let mut before = (self.world.now(), self.world.moved());
        let mut was_late = None;
        loop {
            let next = self.advance(ready);
            ready = Ready::default();
            let wait = match next {
                Next::Close => return self.outcome(true),
                Next::Again => continue,
                Next::Lend => {
                    self.lend();
                    // The thread gives the connection back, and the loop asks for a step at once.
                    Wait {
                        input: true,
                        room: true,
                        until: Some(self.at(self.world.now())),
                    }
                }
                Next::Wait(wait) => {
                    self.check_wait(wait);
                    wait
                }
            };
            let now = self.world.now();
            turns = if before == (now, self.world.moved()) {
                turns + 1
            } else {
                0
            };
            before = (now, self.world.moved());
            assert!(turns <= MAX_TURNS, "the driver spins at {now}");

            let until = wait.until.map(|until| self.ms(until));
            let is_late = until.is_some_and(|until| until <= now);
            let key = (now, self.world.moved(), self.ended);
            assert!(
                !is_late || was_late != Some(key),
                "waits twice for {until:?}, which is over at {now}"
            );
            was_late = is_late.then_some(key);
            alarm = match (alarm, until) {
                (Some(alarm), Some(until)) if self.script.keeps_alarms => Some(alarm.min(until)),
                (alarm, None) if self.script.keeps_alarms => alarm,
                (_, until) => until,
            };
            loop {
                ready = self.world.ready(wait);
                if ready != Ready::default() {
                    break;
                }
                let now = self.world.now();
                if alarm.is_some_and(|alarm| alarm <= now) {
                    alarm = None;
                    break;
                }
                let Some(at) = self.world.next_event().into_iter().chain(alarm).min() else {
                    self.check_that_nothing_is_due();
                    return self.outcome(false);
                };
                let was_stopped = self.world.is_stopped();
                let spurious = self.world.advance_to(at);
                if let Some(claim) = spurious {
                    ready = claim;
                    self.misled |= claim.input && !self.world.is_readable();
                    let real = self.world.ready(wait);
                    ready.input |= real.input;
                    ready.room |= real.room;
                    break;
                }
                if !was_stopped && self.world.is_stopped() {
                    // The loop first advances every connection because of the stop, and handles events then.
                    break;
                }
            }
        }
    }

    /// Lets a thread move the stream for a while, or keeps the connection if there is no thread.
    fn lend(&mut self) {
        assert!(
            self.owed.is_empty(),
            "lends a connection that owes something"
        );
        let Some(time) = self.script.lends else {
            self.remainder.keep();
            return;
        };
        let end = self.world.now() + time;
        let end = self
            .over()
            .map_or(end, |over| over.min(end))
            .max(self.world.now());
        loop {
            self.world.relay();
            match self.world.next_event() {
                Some(at) if at <= end => {
                    self.world.advance_to(at);
                }
                _ => break,
            }
        }
        self.world.advance_to(end);
        self.world.relay();
        self.quiet = self.world.now();
        self.last_received = self.world.now();
        let now = self.at(self.world.now());
        self.remainder.resume(now);
    }

    fn patience(&self) -> Ms {
        let Times {
            lingering, drain, ..
        } = self.script.timeouts;
        match self.remainder.reason() {
            CloseReason::Shutdown => drain.max(lingering),
            CloseReason::Lifetime => lingering,
            _ => 0,
        }
    }

    fn is_over(&self) -> bool {
        self.over().is_some_and(|over| over <= self.world.now())
    }

    /// Returns when the server begins to end the connection.
    fn over(&self) -> Option<Ms> {
        self.script
            .stop
            .into_iter()
            .chain(self.lifetime_end())
            .min()
    }

    /// Returns when the lifetime ends, or 0 if that was before the world began.
    fn lifetime_end(&self) -> Option<Ms> {
        let lifetime = self.script.timeouts.lifetime?;
        Some(lifetime.saturating_sub(self.script.age))
    }

    /// Returns when writes begin to fail, or 0 if that was before the world began.
    fn write_deadline(&self) -> Option<Ms> {
        let lifetime = self.script.timeouts.lifetime? + self.script.timeouts.lingering;
        Some(lifetime.saturating_sub(self.script.age))
    }

    fn at(&self, ms: Ms) -> Instant {
        self.base + Duration::from_millis(ms)
    }

    /// Returns the time of an instant, or 0 if that was before the world began.
    fn ms(&self, at: Instant) -> Ms {
        let since = at.saturating_duration_since(self.base);
        assert_eq!(since.subsec_nanos() % 1_000_000, 0);
        u64::try_from(since.as_millis()).unwrap()
    }
}
