//! Properties that hold for whatever the peer, the socket and the clock do, tested with random scripts.

use proptest::prelude::*;

use super::driver::run;
use super::script::{Begin, End, Socket, quiet, script, time};
use crate::connection::rest::Rest;
use crate::state::close_reason::CloseReason::{Eof, Shutdown};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 8,
        ..ProptestConfig::default()
    })]

    /// The rules are those of the driver: see `driver/rules.rs`.
    #[test]
    fn every_rule_holds_in_any_world(script in script()) {
        run(&script);
    }

    #[test]
    fn a_peer_that_half_closes_and_takes_everything_gets_everything(
        script in script(),
        end in 0..3000u64,
        takes_all in 0..3000u64,
    ) {
        let mut script = script;
        let unread = match script.begin {
            Begin::Carry { unread } => unread,
            _ => 0,
        };
        script.rest = Rest::Echo;
        script.begin = Begin::Carry { unread };
        script.peer.end = Some((end, End::Fin));
        script.peer.takes_all = Some(takes_all);
        script.timeouts = quiet().timeouts;
        script.stop = None;
        let sends = script.peer.sends.iter();
        let sent: usize = sends.filter(|&&(at, _)| at <= end).map(|&(_, n)| n).sum();
        let outcome = run(&script);
        prop_assert_eq!(outcome.reason, Eof);
        prop_assert_eq!(outcome.echoed, unread + sent);
    }

    #[test]
    fn everything_silent_is_closed_one_grace_after_a_stop(
        script in script(),
        stop in 0..1000u64,
        flight in 0..10u64,
    ) {
        let mut script = script;
        script.begin = Begin::Carry { unread: 0 };
        script.peer = quiet().peer;
        script.socket = Socket { can_mark: true, flight, ..script.socket };
        script.stop = Some(stop);
        script.abort = None;
        script.timeouts.idle = None;
        script.timeouts.lifetime = None;
        // No wake-up claims input that does not exist.
        for (_, input, _) in &mut script.wake_ups {
            *input = false;
        }
        let outcome = run(&script);
        prop_assert_eq!(outcome.reason, Shutdown);
        prop_assert_eq!(outcome.closed, Some(stop + 10));
    }

    #[test]
    fn what_had_arrived_at_a_stop_is_echoed_to_a_peer_that_takes_it(
        script in script(),
        stop in 0..1000u64,
    ) {
        let mut script = script;
        script.rest = Rest::Echo;
        script.begin = Begin::Carry { unread: 0 };
        script.peer.end = None;
        script.peer.takes_all = Some(0);
        script.timeouts = quiet().timeouts;
        script.stop = Some(stop);
        script.abort = None;
        let sends = script.peer.sends.iter();
        let arrived: usize = sends.filter(|&&(at, _)| at <= stop).map(|&(_, n)| n).sum();
        let outcome = run(&script);
        prop_assert_eq!(outcome.reason, Shutdown);
        prop_assert!(outcome.echoed >= arrived, "{outcome:?}, {arrived} had arrived");
    }

    #[test]
    fn an_abort_closes_at_once(script in script(), stop in time(), abort in time()) {
        let mut script = script;
        script.begin = Begin::Carry { unread: 0 };
        script.stop = Some(stop);
        script.abort = Some(abort);
        let closed = run(&script).closed;
        prop_assert!(closed.is_some_and(|closed| closed <= stop + abort), "{closed:?}");
    }
}
