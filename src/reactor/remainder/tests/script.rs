//! Scripts, which say what happens in a simulated world, and random ones.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::connection::rest::Rest;
use crate::state::close_reason::CloseReason;

/// Milliseconds since the world began.
pub(super) type Ms = u64;

/// All that happens in a simulated world.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) rest: Rest,
    pub(super) begin: Begin,
    /// The age of the connection when the machine begins.
    pub(super) age: Ms,
    pub(super) timeouts: Times,
    pub(super) peer: Peer,
    pub(super) socket: Socket,
    /// When a stop of the server is requested.
    pub(super) stop: Option<Ms>,
    /// The time between the stop and the abort of the connection.
    pub(super) abort: Option<Ms>,
    /// Wake-ups without a cause: the time, and whether each claims input, and room.
    pub(super) wake_ups: Vec<(Ms, bool, bool)>,
    /// The time for which a thread keeps a stream, if there is a thread.
    pub(super) lends: Option<Ms>,
    /// Whether the driver keeps an alarm that is earlier than the deadline, as the event loop does.
    pub(super) keeps_alarms: bool,
    /// The most bytes that the driver receives at once.
    pub(super) buffer: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    /// A handler leaves `unread` bytes to be sent back first.
    Carry { unread: usize },
    /// A handler has noticed that the server ends the connection, and `left` bytes are to be read. Of
    /// these another thread of the handler may have read some, so that only `there` are in the socket.
    Arrived {
        unread: usize,
        left: usize,
        there: usize,
    },
    /// A handler is done, and `reply` bytes of its reply are in the send buffer.
    Close {
        reply: usize,
        reason: CloseReason,
        silent: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) idle: Option<Ms>,
    pub(super) write: Option<Ms>,
    pub(super) lifetime: Option<Ms>,
    pub(super) lingering: Ms,
    pub(super) drain: Ms,
}

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The times at which the peer sends, with the number of bytes.
    pub(super) sends: Vec<(Ms, usize)>,
    /// When the peer sends a FIN or a reset, if ever. The peer sends nothing afterwards.
    pub(super) end: Option<(Ms, End)>,
    /// The times at which the peer makes room, with the number of bytes.
    pub(super) takes: Vec<(Ms, usize)>,
    /// The time from which on the peer reads everything.
    pub(super) takes_all: Option<Ms>,
    /// The time between the server's FIN and the peer's, if the peer answers.
    pub(super) answers: Option<Ms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Fin,
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    /// The size of the send buffer, in bytes.
    pub(super) capacity: usize,
    /// The time that a byte is in flight once the peer has room for it.
    pub(super) flight: Ms,
    /// Whether the system can tell what is unsent or in flight.
    pub(super) can_mark: bool,
}

/// A connection that a handler has left to the server, and whose peer does nothing.
pub(super) fn quiet() -> Script {
    Script {
        rest: Rest::Echo,
        begin: Begin::Carry { unread: 0 },
        age: 0,
        timeouts: Times {
            idle: None,
            write: None,
            lifetime: None,
            lingering: 2000,
            drain: 5000,
        },
        peer: Peer {
            sends: vec![],
            end: None,
            takes: vec![],
            takes_all: Some(0),
            answers: Some(1),
        },
        socket: Socket {
            capacity: 10_000,
            flight: 0,
            can_mark: true,
        },
        stop: None,
        abort: None,
        wake_ups: vec![],
        lends: None,
        keeps_alarms: true,
        buffer: 64 * 1024,
    }
}

/// Times that often coincide with each other and with the timeouts.
pub(super) fn time() -> impl Strategy<Value = Ms> {
    prop_oneof![
        4 => 0..60u64,
        2 => 0..3000u64,
        2 => (0..9u64).prop_map(|n| n * 500),
        1 => (0..12u64).prop_map(|n| n * 5),
    ]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 1..200usize, 2 => 1..20_000usize, 2 => 16_384..200_000usize]
}

fn reason() -> impl Strategy<Value = CloseReason> {
    prop_oneof![
        Just(CloseReason::Done),
        Just(CloseReason::Eof),
        Just(CloseReason::Reset),
        Just(CloseReason::Idle),
        Just(CloseReason::Stalled),
        Just(CloseReason::Lifetime),
        Just(CloseReason::Shutdown),
        Just(CloseReason::Denied),
        Just(CloseReason::Error),
        Just(CloseReason::Panic),
    ]
}

fn begin() -> impl Strategy<Value = Begin> {
    let unread = || prop_oneof![Just(0), size()];
    prop_oneof![
        6 => unread().prop_map(|unread| Begin::Carry { unread }),
        1 => (unread(), unread(), any::<bool>()).prop_map(|(unread, left, is_there)| {
            let there = if is_there { left } else { left / 2 };
            Begin::Arrived { unread, left, there }
        }),
        1 => (unread(), reason(), any::<bool>()).prop_map(|(reply, reason, silent)| {
            let silent = silent && reason.is_by_server();
            Begin::Close { reply, reason, silent }
        }),
    ]
}

fn timeouts() -> impl Strategy<Value = Times> {
    let lasting = || option::of(time());
    let short = || prop_oneof![Just(0), time()];
    (lasting(), lasting(), lasting(), short(), short()).prop_map(
        |(idle, write, lifetime, lingering, drain)| Times {
            idle,
            write,
            lifetime,
            lingering,
            drain,
        },
    )
}

fn peer() -> impl Strategy<Value = Peer> {
    let end = prop_oneof![4 => Just(End::Fin), 1 => Just(End::Reset)];
    let some = vec((time(), size()), 0..8);
    // A peer that sends on beyond the lifetime or the stop.
    let flood = (time(), 1..40u64, size(), 1..300usize).prop_map(|(from, every, size, count)| {
        let times = (from..).step_by(usize::try_from(every).unwrap());
        times.take(count).map(|at| (at, size)).collect::<Vec<_>>()
    });
    let sends = prop_oneof![5 => some, 1 => flood];
    let takes = vec((time(), size()), 0..8);
    let takes_all = prop_oneof![3 => Just(Some(0)), 3 => option::of(time())];
    (
        sends,
        option::of((time(), end)),
        takes,
        takes_all,
        option::of(0..40u64),
    )
        .prop_map(|(sends, end, takes, takes_all, answers)| Peer {
            sends,
            end,
            takes,
            takes_all,
            answers,
        })
}

fn socket() -> impl Strategy<Value = Socket> {
    let capacity = prop_oneof![40..500usize, 10_000..200_000usize];
    (
        capacity,
        prop_oneof![Just(0), 0..30u64],
        prop::bool::weighted(0.9),
    )
        .prop_map(|(capacity, flight, can_mark)| Socket {
            capacity,
            flight,
            can_mark,
        })
}

prop_compose! {
    pub(super) fn script()(
        rest in prop_oneof![9 => Just(Rest::Echo), 1 => Just(Rest::Discard)],
        begin in begin(),
        age in prop_oneof![Just(0), time()],
        timeouts in timeouts(),
        peer in peer(),
        socket in socket(),
        stop in option::of(time()),
        abort in option::weighted(0.3, time()),
        wake_ups in vec((time(), any::<bool>(), any::<bool>()), 0..4),
        (lends, keeps_alarms) in (option::of(0..50u64), any::<bool>()),
        buffer in prop_oneof![40..300usize, Just(64 * 1024)],
    ) -> Script {
        let mut script = Script {
            rest, begin, age, timeouts, peer, socket, stop, abort, wake_ups, lends, keeps_alarms,
            buffer,
        };
        // Many bytes through small buffers take long, and show nothing more.
        let most = script.buffer.min(script.socket.capacity).saturating_mul(20);
        for (_, n) in &mut script.peer.sends {
            *n = most.min(*n);
        }
        // The events before the machine begins must fit the beginning.
        match begin {
            Begin::Carry { .. } => {}
            Begin::Arrived { .. } => script.stop = Some(0),
            Begin::Close { reason, .. } => match reason {
                CloseReason::Shutdown => script.stop = Some(0),
                CloseReason::Eof => {
                    script.peer.sends.clear();
                    script.peer.end = Some((0, End::Fin));
                }
                CloseReason::Reset => script.peer.end = Some((0, End::Reset)),
                _ => {}
            },
        }
        script
    }
}
