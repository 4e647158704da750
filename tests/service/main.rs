//! The daemon as a service: on a real systemd, which each test boots in namespaces of its own.
//!
//! What an operator would type is in the scripts beside this file; `box.sh` boots, and `lib.sh` is
//! what the scripts share.

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

/// What `box.sh` says where there can't be a box.
const IMPOSSIBLE: i32 = 77;

/// Runs one of the scripts as root of a machine that has the daemon and its units.
fn in_a_box(script: &str) {
    // The clients of the scripts.
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

/// Runs one of the scripts as root of a machine that has copies of these files, each `from:to`.
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
        Some(IMPOSSIBLE) => skip(&format!("for want of a systemd: {said}")),
        code => panic!("{script}: {code:?}\n{said}"),
    }
}

#[test]
fn the_first_connection_starts_it_and_it_has_no_privilege() {
    in_a_box("activation.sh");
}

#[test]
fn alone_it_is_ready_once_all_listen_or_fails_with_the_reason() {
    in_a_box("standalone.sh");
}

#[test]
fn restarts_refuse_reset_and_lose_nobody() {
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
fn the_journal_knows_warnings_from_the_rest() {
    in_a_box("journal.sh");
}

#[test]
fn inherited_sockets_are_told_apart() {
    in_a_box("inherited.sh");
}

#[test]
fn it_can_neither_write_nor_run_nor_reach_anything() {
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
fn a_wrong_setting_is_told_and_its_mending_is_enough() {
    in_a_box("settings.sh");
}
