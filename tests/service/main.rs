//! The daemon as a service on a real systemd, which each test boots in namespaces.
//!
//! The scripts beside this file do what an operator would type. `box.sh` boots systemd, and `lib.sh` has what
//! the scripts share.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod container;
mod package;
#[allow(
    dead_code,
    unused_imports,
    reason = "it is shared with the other tests"
)]
#[path = "../it/support/mod.rs"]
mod support;
mod units;

use std::process::Command;

use support::{available, skip};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

/// The exit status of `box.sh` if this machine can't run a box.
const IMPOSSIBLE: i32 = 77;

/// Runs a script as root on a machine with the daemon and its units.
fn in_a_box(script: &str) {
    // The scripts use these programs.
    if !available(&["nc", "perl", "nsenter", "setpriv", "ip"]) {
        return;
    }
    let mut copies = vec![format!("{}:/usr/bin/echod", env!("CARGO_BIN_EXE_echod"))];
    for unit in ["echod.socket", "echod.service", "echod-standalone.service"] {
        copies.push(format!(
            "{PROJECT}/systemd/{unit}:/lib/systemd/system/{unit}"
        ));
    }
    let page = format!("{PROJECT}/systemd/access.md:/usr/share/doc/echod/access.md");
    copies.push(page);
    boot(script, &copies);
}

/// Runs a script as root on a machine with copies of these files, each `from:to`.
fn boot(script: &str, copies: &[String]) {
    let tests = format!("{PROJECT}/tests/service:/usr/share/tests");
    let output = Command::new("bash")
        .arg(format!("{PROJECT}/tests/service/box.sh"))
        .args(["--timeout", "300", "--copy", &tests])
        .args(copies.iter().flat_map(|copy| ["--copy", copy]))
        .args([
            "--",
            "bash",
            "-c",
            "cd /usr/share/tests && . ./lib.sh && . \"$0\"",
        ])
        .arg(format!("./{script}"))
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match output.status.code() {
        Some(0) => {}
        Some(IMPOSSIBLE) => skip(&format!("no systemd can run here: {said}")),
        code => panic!("{script}: {code:?}\n{said}"),
    }
}

#[test]
fn the_first_connection_starts_the_daemon_without_privileges() {
    in_a_box("activation.sh");
}

#[test]
fn the_standalone_service_is_ready_once_all_listen_or_fails_with_the_reason() {
    in_a_box("standalone.sh");
}

#[test]
fn restarts_refuse_reset_and_lose_no_client() {
    in_a_box("restart.sh");
}

#[test]
fn a_stop_takes_as_long_as_its_drain() {
    in_a_box("drain.sh");
}

#[test]
fn a_stopped_loop_is_killed_and_restarted() {
    in_a_box("watchdog.sh");
}

#[test]
fn a_crash_is_restarted() {
    in_a_box("crash.sh");
}

#[test]
fn the_status_has_the_counts() {
    in_a_box("status.sh");
}

#[test]
fn operators_see_what_it_does() {
    in_a_box("monitoring.sh");
}

#[test]
fn the_journal_has_the_priority_of_warnings() {
    in_a_box("journal.sh");
}

#[test]
fn inherited_sockets_are_told_apart_by_their_names() {
    in_a_box("inherited.sh");
}

#[test]
fn the_daemon_can_neither_write_nor_run_nor_reach_anything() {
    in_a_box("sandbox.sh");
}

#[test]
fn networks_are_shut_out_as_the_page_says() {
    in_a_box("access.sh");
}

#[test]
fn where_splice_is_forbidden_streams_are_copied() {
    in_a_box("splice.sh");
}

#[test]
fn a_wrong_setting_is_reported_and_correcting_it_is_enough() {
    in_a_box("settings.sh");
}
