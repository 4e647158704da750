//! The contents of the units.

use std::collections::BTreeSet;

use socketserver::Builder;

use crate::in_a_box;

const ACTIVATED: &str = include_str!("../../systemd/echod.service");
const STANDALONE: &str = include_str!("../../systemd/echod-standalone.service");

#[test]
fn the_units_are_verified_and_rated() {
    in_a_box("units.sh");
}

#[test]
fn the_limits_of_the_units_fit_the_default_of_connections() {
    for unit in [ACTIVATED, STANDALONE] {
        let number = |name: &str| -> usize {
            let line = unit.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_end_matches('M').parse().unwrap()
        };
        let connections = Builder::MAX_CONNECTIONS;
        assert!(unit.contains(&format!(
            "ECHOD_MAX_CONNECTIONS={connections} of one service"
        )));
        // Only moving streams takes threads, at most 32, and so does accepting many clients at once.
        assert_eq!(number("TasksMax="), 256);
        // Each connection has 64 KiB, so 16 have a mebibyte.
        assert_eq!(number("MemoryMax="), 64 + connections / 16);
    }
}

/// A unit can't include another, so this compares them.
#[test]
fn the_units_differ_only_in_what_binding_takes() {
    let lines = |unit: &'static str| -> BTreeSet<&str> {
        unit.lines().filter(|line| !line.starts_with('#')).collect()
    };
    let (activated, standalone) = (lines(ACTIVATED), lines(STANDALONE));
    let only_activated: Vec<_> = activated.difference(&standalone).copied().collect();
    let only_standalone: Vec<_> = standalone.difference(&activated).copied().collect();
    assert_eq!(
        only_activated,
        [
            "Also=echod.socket",
            "CapabilityBoundingSet=",
            "Description=TCP echo server",
            "PrivateNetwork=yes",
            "PrivateUsers=yes",
            "Requires=echod.socket",
            "RestrictAddressFamilies=AF_UNIX",
            "SystemCallFilter=readlink readlinkat chdir pipe2 dup2 dup3 socket connect",
            "UnsetEnvironment=ECHOD_SERVICE",
        ]
    );
    assert_eq!(
        only_standalone,
        [
            "After=network-online.target echod.socket echod.service",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "Conflicts=echod.socket echod.service",
            "Description=TCP echo server, standalone",
            "Environment=ECHOD_LISTEN=:7 ECHOD_SOCKET_BUFFERS=128KiB",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
            "SystemCallFilter=readlink readlinkat chdir pipe2 dup2 dup3 socket connect bind listen",
            "SystemCallFilter=sendmmsg",
            "WantedBy=multi-user.target",
            "Wants=network-online.target",
        ]
    );
}
