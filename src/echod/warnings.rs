//! Warnings at the start: about settings without effect, and about unknown `ECHOD_` variables.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::{env, fs};

use clap::CommandFactory;
use socketserver::Builder;

use crate::cli::Cli;
use crate::inherited::Inherited;

/// The prefix of all variables.
const PREFIX: &str = "ECHOD_";

/// The least similarity, from 0 to 1, of a name that is suggested instead: the value that clap uses.
const MIN_SIMILARITY: f64 = 0.7;

/// Logs all warnings.
///
/// A process that serves one inherited connection logs none. Otherwise each client would add the same lines
/// to the log.
pub(crate) fn log_all(cli: &Cli, inherited: &Inherited) {
    let Inherited::Listeners(passed) = inherited else {
        return;
    };
    for variable in unknown_variables() {
        log::warn!("{variable}");
    }
    if let (Some(name), false) = (cli.given.name("listen"), passed.is_empty()) {
        log::warn!("{name} has no effect: the sockets that were passed to echod take its place");
    }
    let binds_nothing = !passed.is_empty() && cli.service.is_empty();
    // `ECHOD_REUSE_PORT=false` has no effect anyway.
    let reuse_port = cli.given.name("reuse_port").filter(|_| cli.reuse_port);
    for name in [
        cli.given.name("backlog"),
        cli.given.name("socket_buffers"),
        reuse_port,
    ] {
        if let (Some(name), true) = (name, binds_nothing) {
            log::warn!("{name} has no effect on sockets that were passed to echod");
        }
    }
    let backlog = cli.backlog;
    if let (Some(name), Some(most)) = (cli.given.name("backlog"), somaxconn())
        && !binds_nothing
        && backlog > most
    {
        log::warn!("{name} is {backlog}, but the kernel takes at most {most} (net.core.somaxconn)");
    }
    if let (Some(name), Some(size), Some(most)) = (
        cli.given.name("socket_buffers"),
        cli.socket_buffers(),
        max_buffer(),
    ) && !binds_nothing
        && size > most
    {
        log::warn!(
            "{name} is {size} bytes, but the kernel takes at most {most} (net.core.rmem_max, net.core.wmem_max)"
        );
    }
    if let Some(name) = cli
        .given
        .name("busy_poll")
        .filter(|_| cli.busy_poll > Builder::MAX_BUSY_POLL)
    {
        let (given, most) = (cli.busy_poll, Builder::MAX_BUSY_POLL);
        log::warn!("{name} is {given:?}, above the maximum of {most:?}, which is used instead");
    }
}

fn somaxconn() -> Option<u32> {
    sysctl("somaxconn")
}

/// Returns the maximum size that both buffers of a connection can be set to.
fn max_buffer() -> Option<usize> {
    Some(sysctl::<usize>("rmem_max")?.min(sysctl("wmem_max")?))
}

/// Returns a setting of the kernel in `net.core`, or `None` if it can't be read.
fn sysctl<N: FromStr>(name: &str) -> Option<N> {
    let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?;
    text.trim().parse().ok()
}

/// Returns a warning for each variable with the prefix that is not a setting.
fn unknown_variables() -> Vec<String> {
    let command = Cli::command();
    let known = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str());
    let known: BTreeSet<_> = known.collect();
    let mut unknown: Vec<_> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with(PREFIX) && !known.contains(&**name))
        .filter(|(name, value)| !is_of_kubernetes(name, value))
        .map(|(name, _)| warning(&name, &known))
        .collect();
    unknown.sort();
    unknown
}

fn warning(name: &str, known: &BTreeSet<&str>) -> String {
    let similarity = |known: &&str| strsim::jaro(without_prefix(name), without_prefix(known));
    let closest = known
        .iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))
        .filter(|known| similarity(known) > MIN_SIMILARITY);
    let tip = closest.map_or_else(String::new, |known| format!("; did you mean {known}?"));
    format!("unknown variable {name} is ignored{tip}")
}

fn without_prefix(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Returns whether Kubernetes sets this variable in every container, because a Kubernetes service has a name
/// that begins with "echod".
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_port = |value: &str| value.parse::<u16>().is_ok();
    if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") {
        return true;
    }
    match name.split_once("_PORT") {
        // Such as tcp://10.0.0.1:7, which no user would set.
        Some((_, "")) => value.contains("://"),
        // Such as _7_TCP_ADDR.
        Some((_, port)) => port.split('_').nth(1).is_some_and(is_port),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variables_of_kubernetes_are_known() {
        for (name, value) in [
            ("ECHOD_SERVICE_HOST", "10.0.0.1"),
            ("ECHOD_SERVICE_PORT", "7"),
            ("ECHOD_SERVICE_PORT_ECHO", "7"),
            ("ECHOD_PORT", "tcp://10.0.0.1:7"),
            ("ECHOD_PORT_7_TCP", "tcp://10.0.0.1:7"),
            ("ECHOD_PORT_7_TCP_PROTO", "tcp"),
            ("ECHOD_PORT_7_TCP_PORT", "7"),
            ("ECHOD_PORT_7_TCP_ADDR", "10.0.0.1"),
            ("ECHOD_TEST_PORT_7_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_of_kubernetes(name, value), "{name}");
        }
        for (name, value) in [
            ("ECHOD_PORT", "7"),
            ("ECHOD_LISTN", ":7"),
            ("ECHOD_PORTS", "7"),
            ("ECHOD_SERVICES", "daytime=:13"),
        ] {
            assert!(!is_of_kubernetes(name, value), "{name}");
        }
    }

    #[test]
    fn the_warning_of_an_unknown_name_has_the_closest_known_one() {
        let known = BTreeSet::from(["ECHOD_LISTEN", "ECHOD_BACKLOG"]);
        let expected = "unknown variable ECHOD_LISTN is ignored; did you mean ECHOD_LISTEN?";
        assert_eq!(warning("ECHOD_LISTN", &known), expected);
        let expected = "unknown variable ECHOD_PORT is ignored";
        assert_eq!(warning("ECHOD_PORT", &known), expected);
    }
}
