//! The pure parts of the benchmark. `cargo test` does not build the tests of a benchmark.

#[path = "../../benches/peers/stats.rs"]
mod stats;
#[allow(dead_code, reason = "the benchmark asks for more")]
#[path = "../../benches/peers/workloads.rs"]
mod workloads;

use stats::{Ratio, median};
use workloads::Workload;

fn assert_is(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn a_median_is_the_middle_value_whatever_the_order() {
    assert_is(median(&[3.0, 1.0, 100.0]), 3.0);
    assert_is(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
    assert_is(median(&[7.0]), 7.0);
    assert!(median(&[]).is_nan());
}

#[test]
fn a_ratio_is_taken_within_rounds_not_of_medians() {
    // The machine was slow in the second round, for both servers.
    let ratio = Ratio::of(&[100.0, 10.0, 90.0], &[50.0, 20.0, 30.0]).unwrap();
    assert_is(ratio.median, 2.0);
    assert_is(ratio.least, 0.5);
    assert_is(ratio.most, 3.0);
    assert_eq!(Ratio::of(&[], &[1.0]), None);
}

#[test]
fn every_workload_is_found_by_its_name() {
    for workload in Workload::all() {
        assert_eq!(
            Workload::select(&workload.to_string()),
            Ok(vec![workload]),
            "{workload}"
        );
    }
    let size = 7;
    let connections = 2;
    let ping_pong = Workload::PingPong { size, connections };
    assert_eq!(Workload::select("pingpong-7-2"), Ok(vec![ping_pong]));
    assert_eq!(
        Workload::select("bulk-3"),
        Ok(vec![Workload::Bulk { streams: 3 }])
    );
    let clients = 3;
    let connect = Workload::Connect { clients };
    assert_eq!(Workload::select("connect-3"), Ok(vec![connect]));
    assert_eq!(Workload::select("connect-8"), Workload::select("connect"));
}

#[test]
fn workloads_are_found_by_the_beginning_of_their_names() {
    let names = |prefix| -> Vec<_> {
        let workloads = Workload::select(prefix).unwrap();
        workloads.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names("bulk"), ["bulk-1", "bulk-1-threads", "bulk-8"]);
    assert_eq!(names("pingpong-128-").len(), 7);
    // A complete name selects that workload only, even if other names begin with it.
    assert_eq!(names("bulk-1"), ["bulk-1"]);
    assert_eq!(names("pingpong-128-50"), ["pingpong-128-50"]);
    assert_eq!(names("connect"), ["connect"]);
}

#[test]
fn an_unknown_workload_is_rejected() {
    for name in [
        "pingpong-0-1",
        "pingpong-5000-1",
        "pingpong-1-9000",
        "connect-0",
        "connect-9000",
        "bulk-0",
        "bulk-x",
        "x",
    ] {
        assert!(Workload::select(name).is_err(), "{name}");
    }
}
