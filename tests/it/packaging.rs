//! The files in the package agree with the daemon.

use std::collections::BTreeMap;

use crate::support::{Daemon, words};

#[test]
fn the_environment_file_has_every_variable_with_its_default() {
    let file: BTreeMap<_, _> = include_str!("../../systemd/echod.default")
        .lines()
        .filter_map(|line| line.strip_prefix("#ECHOD_")?.split_once('='))
        .collect();
    let help = Daemon::command().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let variables: Vec<_> = words(&help, "ECHOD_")
        .map(|name| name.trim_start_matches("ECHOD_"))
        .collect();
    assert_eq!(file.len(), variables.len(), "{file:?}\n{variables:?}");
    for name in variables {
        let about = help.split_once(&format!("ECHOD_{name}=]")).unwrap().1;
        let default = about
            .trim_start()
            .strip_prefix("[default: ")
            .and_then(|rest| rest.split_once(']'))
            .map(|(default, _)| default);
        let found = file.get(name);
        assert!(found.is_some(), "{name} is missing");
        if default.is_some() {
            assert_eq!(found.copied(), default, "{name}");
        }
    }
}

#[test]
fn every_line_of_the_environment_file_can_be_used() {
    // Set all variables at once, except the ports.
    let settings = include_str!("../../systemd/echod.default")
        .lines()
        .filter_map(|line| line.strip_prefix("#ECHOD_")?.split_once('='))
        .filter(|(name, _)| !["LISTEN", "SERVICE"].contains(name))
        .map(|(name, value)| (format!("ECHOD_{name}"), value));
    let mut command = Daemon::command();
    let daemon = Daemon::spawn(command.envs(settings).args(["--listen", "127.0.0.1:0"]));
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn the_packages_changelog_is_of_this_version() {
    let changelog = include_str!("../../systemd/debian/changelog");
    let version = concat!("echod (", env!("CARGO_PKG_VERSION"), "-");
    assert!(changelog.starts_with(version), "{changelog}");
}
