use std::time::Duration;

use super::shutdown::Phase;
use super::*;

fn state(max_connections: usize) -> Arc<ServerState> {
    let timeouts = Timeouts {
        idle: None,
        output_is_activity: false,
        write: None,
        lifetime: None,
        lingering: Duration::ZERO,
        busy_poll: Duration::ZERO,
        drain: Duration::ZERO,
    };
    let prefix = LogPrefix::default();
    Arc::new(ServerState::new(prefix, timeouts, max_connections, None, None).unwrap())
}

#[test]
fn the_limit_is_hard_and_a_dropped_slot_is_free_again() {
    let state = state(2);
    let first = state.admit().unwrap();
    let _second = state.admit().unwrap();
    assert!(state.admit().is_none());
    assert!(!state.has_room_or_wakes_lead());
    drop(first);
    assert!(state.has_room_or_wakes_lead());
    assert!(state.admit().is_some());
    assert_eq!(state.connection_count(), 0, "no slot has a connection");
}

fn connect(listener: &std::net::TcpListener) -> (Arc<SharedStream>, Arc<Record>) {
    let addr = listener.local_addr().unwrap();
    let stream = std::net::TcpStream::connect(addr).unwrap();
    let record = Record::new(0, addr);
    (Arc::new(SharedStream::new(stream)), Arc::new(record))
}

#[test]
fn totals_include_the_bytes_of_each_connection_once() {
    let state = state(9);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for round in 0..3 {
        let slot = state.admit().unwrap();
        let (stream, record) = connect(&listener);
        slot.attach(&stream, &record);
        record.received(5);
        record.sent(7);
        match round {
            0 => assert!(slot.finish(&record, CloseReason::Eof)),
            1 => assert_eq!(state.finish_all().len(), 1),
            _ => {}
        }
    }
    let totals = state.totals();
    assert_eq!((totals.bytes_in(), totals.bytes_out()), (15, 21));
    assert!(state.is_empty_or_wakes_supervisor());
}

#[test]
fn a_connection_that_is_attached_during_an_abort_is_aborted_once() {
    let state = state(9);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let [(before, one), (after, other)] = [connect(&listener), connect(&listener)];
    let slots = [state.admit().unwrap(), state.admit().unwrap()];
    slots[0].attach(&before, &one);
    state.shutdown.request(Phase::Aborting);
    slots[1].attach(&after, &other);
    assert!(!one.is_aborted() && other.is_aborted());
    assert_eq!(state.abort(), [one.peer()], "the other was aborted before");
    assert!(one.is_aborted());
    assert_eq!(state.totals().aborted(), 2);
}
