//! The addresses that the examples accept, and names with several addresses.

use std::fs;
use std::io::ErrorKind;
use std::iter;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::time::Duration;

use super::{run, shared};
use crate::support::{available, example, reserve_addr, skip};

#[test]
fn notations_that_only_the_resolver_takes_for_addresses_are_rejected() {
    for host in [
        "*",
        "1",
        "127.1",
        "0x7f.1",
        "0X7F000001",
        "0177.0.0.1",
        "1.",
    ] {
        let error = shared::resolve(&format!("{host}:7")).unwrap_err();
        assert!(
            error.to_string().contains("neither a name nor an IP"),
            "{host}: {error}"
        );
    }
    for addr in [
        "localhost:+7",
        "localhost: 7",
        "localhost:echo",
        ":7",
        "::1:7",
        "localhost",
        "localhost:",
    ] {
        let error = shared::resolve(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{addr}: {error}");
    }
    for addr in ["127.0.0.1:7", "[::1]:7"] {
        assert_eq!(shared::resolve(addr).unwrap(), [addr.parse().unwrap()]);
    }
    assert!(!shared::resolve("localhost:7").unwrap().is_empty());
}

#[test]
fn examples_reject_a_star_for_a_host() {
    // The resolver would take `*` for the address of this listener.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let star = format!("*:{}", listener.local_addr().unwrap().port());
    for (name, args) in [
        ("client", vec![&*star]),
        ("echo_client", vec![&star]),
        ("daytime", vec![&star]),
        ("conformance", vec![&star]),
        ("peer", vec!["ann", "*:0"]),
    ] {
        let (code, stdout, stderr) = run(name, &args);
        assert_ne!(code, Some(0), "{name}");
        assert_eq!(stdout, "", "{name}");
        assert!(
            stderr.contains("neither a name nor an IP"),
            "{name}: {stderr}"
        );
    }
}

/// Runs an example in a namespace in which the name `twofold` has two addresses: 127.0.0.1, where nothing
/// listens, and `unusable`, which has no route.
fn at_twofold(unusable: &str, name: &str, args: &[&str]) -> Option<Output> {
    if !available(&["unshare", "ip", "mount"]) {
        return None;
    }
    let namespaces = ["--map-root-user", "--net", "--mount"];
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(namespaces);
        unshare
    };
    if !unshare().arg("true").status().unwrap().success() {
        skip("this user can make no namespaces");
        return None;
    }
    let hosts = format!(
        "twofold-{}-{name}-{}",
        std::process::id(),
        unusable.replace(':', "_")
    );
    let hosts = std::env::temp_dir().join(hosts);
    fs::write(&hosts, format!("127.0.0.1 twofold\n{unusable} twofold\n")).unwrap();
    let script = "ip link set lo up && mount --bind \"$1\" /etc/hosts && shift && exec \"$@\"";
    let output = unshare()
        .args(["sh", "-c", script, "sh"])
        .arg(&hosts)
        .arg(example(name).get_program())
        .args(args)
        .output()
        .unwrap();
    fs::remove_file(hosts).unwrap();
    Some(output)
}

#[test]
fn a_refusal_is_reported_rather_than_an_unusable_address() {
    for unusable in ["192.0.2.1", "2001:db8::1"] {
        for (name, args, refused) in [
            ("client", vec!["twofold:7"], "no program listens there"),
            ("echo_client", vec!["twofold:7"], "refused"),
            ("daytime", vec!["twofold:7"], "no program listens there"),
            (
                "conformance",
                vec!["--only", "nothing", "twofold:7"],
                "refused",
            ),
        ] {
            let Some(output) = at_twofold(unusable, name, &args) else {
                return;
            };
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8(said).unwrap();
            assert!(said.contains(refused), "{name}, {unusable}: {said}");
        }
    }
}

#[test]
fn a_refusal_is_reported_rather_than_a_silent_address() {
    let (_reserved, refusing) = reserve_addr();
    // If its backlog is full, a listener does not answer.
    let (listener, silent) = reserve_addr();
    listener.listen(0).unwrap();
    let wait = Duration::from_millis(500);
    let _backlog: Vec<_> =
        iter::from_fn(|| TcpStream::connect_timeout(&silent, wait).ok()).collect();
    let unusable = "[2001:db8::1]:7".parse().unwrap();
    for (addrs, kind) in [
        ([refusing, silent], ErrorKind::ConnectionRefused),
        ([silent, unusable], ErrorKind::TimedOut),
    ] {
        let error = shared::connect(&addrs).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
}
