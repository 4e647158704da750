//! Reports of limits: a warning when a limit is reached, and a line when it is no longer.

use std::mem;
use std::time::Instant;

use crate::state::{ServerState, Source};
use crate::warn_once::WarnOnce;

/// The reports of the leader.
#[derive(Default)]
pub(super) struct LimitReports {
    /// Whether all slots were in use when a leader last looked.
    is_full: bool,
    warned: WarnOnce,
}

impl LimitReports {
    /// Notes whether a slot is free now, and reports the limits that are no longer reached. Returns when
    /// the next episode ends, so that the leader wakes up to report it.
    pub(super) fn note_room(
        &mut self,
        state: &ServerState,
        has_room: bool,
        now: Instant,
    ) -> Option<Instant> {
        // Only the leader takes slots, and a slot that becomes free wakes the leader. So if no slot was
        // free when a leader last looked, none was free until now.
        if mem::replace(&mut self.is_full, !has_room) {
            self.warned.held_until(now);
        }
        let prefix = &state.prefix;
        if self.warned.should_report_end(now) {
            let limit = state.max_connections();
            log::info!(
                service = prefix, limit;
                "{prefix}below the limit of {limit} connections again"
            );
        }
        // While no slot is free, the limit is reached, and its episode can't end.
        let limit_end = self.warned.end().filter(|_| has_room);
        limit_end.into_iter().chain(note_sources(state, now)).min()
    }

    /// Warns once per episode that the limit of connections is reached. `consequence`: what happens to new
    /// connections.
    pub(super) fn warn(&mut self, state: &ServerState, consequence: &str) {
        if self.warned.should_report(Instant::now()) {
            let (prefix, limit) = (&state.prefix, state.max_connections());
            let most = state.name_largest_sources();
            let colon = if most.is_empty() { "" } else { "; the most: " };
            log::warn!(
                service = prefix, limit, most;
                "{prefix}limit of {limit} connections reached; new ones {consequence}{colon}{most}"
            );
        }
    }
}

/// Reports the end of the episode of the limit per source. Returns when an episode that goes on ends.
fn note_sources(state: &ServerState, now: Instant) -> Option<Instant> {
    let (prefix, limit) = (&state.prefix, state.max_per_source()?);
    let (is_over, end) = {
        let mut warned = state.source_limit_warned();
        (warned.should_report_end(now), warned.end())
    };
    if is_over {
        log::info!(
            service = prefix, limit;
            "{prefix}no source exceeds the limit of {limit} connections any more"
        );
    }
    end
}

/// Warns once per episode that a source has reached its limit.
pub(crate) fn warn_of_source_limit(state: &ServerState, (source, limit): (Source, usize)) {
    if !state.source_limit_warned().should_report(Instant::now()) {
        return;
    }
    let prefix = &state.prefix;
    log::warn!(
        service = prefix, source:%, limit;
        "{prefix}limit of {limit} connections per source reached by {source}; new ones are closed"
    );
    // The leader reports the end of the episode. Wake it, because it may be asleep without a timeout.
    state.shutdown.lead().wake();
}
