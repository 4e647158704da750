//! The state machine in a simulated world: the peer, the socket and the clock are simulated.
//!
//! A script says what happens, and when. The driver plays the script, and checks every rule of the
//! machine meanwhile. So a test consists of a script and of how the connection must end. Each byte is
//! represented by its position in the stream: the socket must get the positions in order, without a gap.

mod any_world;
mod driver;
mod script;
mod world;

use crate::connection::rest::Rest;
use crate::state::close_reason::CloseReason::{
    self, Eof, Idle, Lifetime, Reset, Shutdown, Stalled,
};
use driver::{Outcome, run};
use script::{Begin, End, Ms, Peer, Script, Socket, Times, quiet};

/// Checks when and why the connection of a script ends, and how many bytes the peer gets.
fn ends(script: &Script, closed: Ms, reason: CloseReason, echoed: usize) {
    let outcome = run(script);
    let expected = Outcome {
        closed: Some(closed),
        reason,
        echoed,
        delivered: outcome.delivered,
    };
    assert_eq!(outcome, expected, "{script:#?}");
}

/// A peer that sends 100 bytes at 50 ms, and reads its whole echo.
fn peer_that_sends() -> Peer {
    Peer {
        sends: vec![(50, 100)],
        ..quiet().peer
    }
}

/// A peer that sends 100 kB at 50 ms, and reads nothing of its echo.
fn peer_that_reads_nothing() -> Peer {
    Peer {
        sends: vec![(50, 100_000)],
        takes_all: None,
        ..quiet().peer
    }
}

#[test]
fn without_timeouts_and_a_stop_a_silent_peer_stays_for_ever() {
    assert_eq!(run(&quiet()).closed, None);
}

#[test]
fn a_peer_that_half_closes_is_closed_once_its_echo_is_with_the_socket() {
    let end = Some((80, End::Fin));
    let peer = Peer {
        end,
        ..peer_that_sends()
    };
    ends(&Script { peer, ..quiet() }, 80, Eof, 100);
}

#[test]
fn a_stop_shortens_the_lingering_for_a_peer_that_has_everything_and_is_silent() {
    let begin = Begin::Close {
        reply: 100,
        reason: CloseReason::Done,
        silent: false,
    };
    let script = Script {
        begin,
        peer: Peer {
            answers: None,
            ..quiet().peer
        },
        ..quiet()
    };
    let stopped = Script {
        stop: Some(500),
        ..script.clone()
    };
    let stopped_in_mid_upload = Script {
        peer: Peer {
            sends: vec![(505, 10), (511, 10)],
            ..stopped.peer.clone()
        },
        ..stopped.clone()
    };
    ends(&script, 2000, CloseReason::Done, 100);
    ends(&stopped, 500 + 10, CloseReason::Done, 100);
    ends(&stopped_in_mid_upload, 511 + 10, CloseReason::Done, 100);
}

#[test]
fn bytes_that_the_handler_has_left_come_first() {
    let script = Script {
        begin: Begin::Carry { unread: 7 },
        peer: Peer {
            end: Some((80, End::Fin)),
            ..peer_that_sends()
        },
        ..quiet()
    };
    ends(&script, 80, Eof, 107);
}

#[test]
fn a_peer_that_is_read_and_not_answered_gets_nothing() {
    let script = Script {
        rest: Rest::Discard,
        peer: Peer {
            end: Some((80, End::Fin)),
            ..peer_that_sends()
        },
        ..quiet()
    };
    ends(&script, 80, Eof, 0);
}

#[test]
fn a_reset_ends_at_once() {
    let end = Some((80, End::Reset));
    let peer = Peer {
        end,
        ..peer_that_sends()
    };
    ends(&Script { peer, ..quiet() }, 80, Reset, 100);
}

#[test]
fn a_peer_that_falls_silent_times_out_and_answers_the_fin() {
    let timeouts = Times {
        idle: Some(500),
        ..quiet().timeouts
    };
    let script = Script {
        timeouts,
        peer: peer_that_sends(),
        ..quiet()
    };
    ends(&script, 50 + 500 + 1, Idle, 100);
}

#[test]
fn a_peer_that_never_answers_the_fin_is_lingered_for() {
    let timeouts = Times {
        idle: Some(500),
        ..quiet().timeouts
    };
    let peer = Peer {
        answers: None,
        ..peer_that_sends()
    };
    let script = Script {
        timeouts,
        peer,
        ..quiet()
    };
    ends(&script, 50 + 500 + 2000, Idle, 100);
}

#[test]
fn a_peer_that_takes_nothing_times_out() {
    let timeouts = Times {
        write: Some(300),
        ..quiet().timeouts
    };
    let script = Script {
        timeouts,
        peer: peer_that_reads_nothing(),
        ..quiet()
    };
    ends(&script, 50 + 300 + 2000, Stalled, 0);
}

#[test]
fn a_peer_that_takes_less_than_the_kernel_reports_is_not_stalled() {
    let timeouts = Times {
        write: Some(1000),
        ..quiet().timeouts
    };
    let peer = Peer {
        // Less than a third of the send buffer, so that the socket never becomes writable.
        takes: (1..200).map(|n| (n * 500, 600)).collect(),
        end: Some((60, End::Fin)),
        ..peer_that_reads_nothing()
    };
    let script = Script {
        timeouts,
        peer,
        ..quiet()
    };
    assert_eq!(run(&script).reason, Eof);
}

#[test]
fn a_silent_peer_is_closed_one_grace_after_a_stop() {
    let stop = Some(200);
    ends(&Script { stop, ..quiet() }, 210, Shutdown, 0);
}

#[test]
fn a_silent_peer_is_closed_one_grace_after_its_lifetime() {
    let timeouts = Times {
        lifetime: Some(200),
        ..quiet().timeouts
    };
    let script = Script {
        timeouts,
        age: 150,
        ..quiet()
    };
    ends(&script, 60, Lifetime, 0);
}

#[test]
fn what_is_under_way_at_a_stop_is_echoed_and_what_comes_later_is_not() {
    let script = Script {
        stop: Some(45),
        peer: Peer {
            sends: vec![(50, 100), (51, 9)],
            ..quiet().peer
        },
        ..quiet()
    };
    ends(&script, 51, Shutdown, 100);
}

#[test]
fn a_flood_does_not_hold_up_a_stop() {
    let script = Script {
        stop: Some(300),
        peer: Peer {
            sends: (0..3000).map(|at| (at, 100)).collect(),
            ..quiet().peer
        },
        ..quiet()
    };
    // The peer receives the FIN at once, and answers a millisecond later.
    ends(&script, 301, Shutdown, 30_100);
}

#[test]
fn a_stop_waits_for_what_is_in_flight_and_not_for_a_silent_peer() {
    let script = Script {
        stop: Some(60),
        socket: Socket {
            flight: 40,
            ..quiet().socket
        },
        peer: peer_that_sends(),
        ..quiet()
    };
    ends(&script, 90, Shutdown, 100);
}

#[test]
fn a_stop_waits_for_a_peer_that_takes_nothing_until_the_abort() {
    let script = Script {
        stop: Some(60),
        abort: Some(5000),
        peer: peer_that_reads_nothing(),
        ..quiet()
    };
    let outcome = run(&script);
    assert_eq!(outcome.closed, Some(5060));
    assert_eq!(outcome.reason, Shutdown);
    assert!(!outcome.delivered, "the abort counts");
}

#[test]
fn an_abort_of_a_connection_that_has_everything_does_not_count() {
    let script = Script {
        begin: Begin::Close {
            reply: 10,
            reason: Shutdown,
            silent: false,
        },
        stop: Some(0),
        abort: Some(100),
        peer: Peer {
            answers: None,
            ..quiet().peer
        },
        ..quiet()
    };
    let outcome = run(&script);
    assert_eq!((outcome.closed, outcome.delivered), (Some(100), true));
}

#[test]
fn a_stream_is_lent_to_a_thread_and_comes_back_when_it_ends() {
    let script = Script {
        lends: Some(20),
        socket: Socket {
            capacity: 100_000,
            ..quiet().socket
        },
        peer: Peer {
            sends: (0..40).map(|at| (at, 20_000)).collect(),
            end: Some((100, End::Fin)),
            ..quiet().peer
        },
        ..quiet()
    };
    ends(&script, 100, Eof, 800_000);
}

#[test]
fn a_stream_that_was_lent_is_idle_from_its_return() {
    let timeouts = Times {
        idle: Some(500),
        ..quiet().timeouts
    };
    let script = Script {
        lends: Some(30),
        timeouts,
        socket: Socket {
            capacity: 100_000,
            ..quiet().socket
        },
        peer: Peer {
            sends: (0..10).map(|at| (at, 20_000)).collect(),
            ..quiet().peer
        },
        ..quiet()
    };
    // The eighth large read is at 7, and the thread brings the connection back at 37.
    ends(&script, 37 + 500 + 1, Idle, 200_000);
}

#[test]
fn a_lifetime_and_one_lingering_time_bound_a_peer_that_takes_nothing() {
    let timeouts = Times {
        lifetime: Some(1000),
        lingering: 500,
        ..quiet().timeouts
    };
    let peer = Peer {
        answers: None,
        ..peer_that_reads_nothing()
    };
    let script = Script {
        timeouts,
        peer,
        ..quiet()
    };
    // If the waits added up, the FIN would be sent at 2000, and the close would be at 2500.
    ends(&script, 1500, Lifetime, 0);
}
