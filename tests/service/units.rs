//! What the units say.

use std::collections::BTreeSet;

use socketserver::Builder;

use crate::in_a_box;

const ACTIVATED: &str = include_str!("../../systemd/echod.service");
const STANDALONE: &str = include_str!("../../systemd/echod-standalone.service");

#[test]
fn they_are_verified_and_rated() {
    in_a_box("units.sh");
}

#[test]
fn their_limits_are_for_the_default_of_connections() {
    for unit in [ACTIVATED, STANDALONE] {
        let number = |name: &str| -> usize {
            let line = unit.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim_end_matches('M').parse().unwrap()
        };
        let connections = Builder::MAX_CONNECTIONS;
        assert!(unit.contains(&format!(
            "ECHOD_MAX_CONNECTIONS={connections} of one service"
        )));
        // Only the moving of streams takes threads, at most 32, and accepting a burst.
        assert_eq!(number("TasksMax="), 256);
        // 64 KiB each: 16 to a mebibyte.
        assert_eq!(number("MemoryMax="), 64 + connections / 16);
    }
}

/// Units can't include each other.
#[test]
fn they_differ_only_in_what_it_takes_to_bind() {
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
