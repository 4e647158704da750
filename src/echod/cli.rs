//! The command line: each flag with its environment variable, default and help text.

pub(crate) mod commands;
mod source;
pub(crate) mod usage;
mod values;

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use log::LevelFilter;
use socketserver::{Builder, Network};

use crate::address::ListenAddr;
use crate::banner::Banner;
use crate::help;
use crate::logging::Format;
use crate::service::{self, Service};
use commands::Command;
use source::Given;
pub(crate) use source::{is_subcommand, log_format};
use values::{backlog, count, duration, network, number, reactors, size, times, truth};

/// TCP echo server: sends back what it receives (RFC 862)
///
/// echod runs in the foreground, logs to standard error, and stops at Ctrl-C.
#[derive(Debug, Parser)]
#[command(
    name = "echod",
    version,
    after_help = help::daemon(),
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Address to listen on; repeat it, or separate with commas
    #[arg(
        short,
        long,
        value_name = "ADDR",
        env = "ECHOD_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:7007"
    )]
    pub(crate) listen: Vec<ListenAddr>,

    /// Serve another service as well, as in daytime=:13; repeat it, or separate with commas
    #[arg(
        long,
        value_name = "NAME=ADDR",
        env = "ECHOD_SERVICE",
        value_delimiter = ',',
        value_parser = service::at_address
    )]
    pub(crate) service: Vec<(Service, ListenAddr)>,

    /// Maximum simultaneous connections per service
    #[arg(
        short = 'c',
        long,
        value_name = "N",
        env = "ECHOD_MAX_CONNECTIONS",
        value_parser = count::<NonZeroUsize>,
        default_value_t = default_max_connections()
    )]
    pub(crate) max_connections: NonZeroUsize,

    /// At --max-connections, let new clients wait in the backlog, or reject them: accept and close
    #[arg(
        long,
        value_name = "WHAT",
        env = "ECHOD_AT_LIMIT",
        value_enum,
        ignore_case = true,
        default_value_t = AtLimit::Wait
    )]
    pub(crate) at_limit: AtLimit,

    /// Maximum simultaneous connections from one IPv4 address or IPv6 /64; further ones are closed
    /// [default: 0, unlimited]
    #[arg(long, value_name = "N", env = "ECHOD_MAX_PER_SOURCE", value_parser = number::<usize>)]
    max_per_source: Option<usize>,

    /// Trust proxies in these networks: require a PROXY protocol header, version 1 or 2, on each of their
    /// connections, and take the client's address from the header; repeat it, or separate with commas
    #[arg(
        long,
        value_name = "CIDR",
        env = "ECHOD_PROXY_PROTOCOL",
        value_delimiter = ',',
        value_parser = network
    )]
    pub(crate) proxy_protocol: Vec<Network>,

    /// Close a connection that has sent nothing for this long [default: 0, never]
    #[arg(long, value_name = "DUR", env = "ECHOD_IDLE_TIMEOUT", value_parser = duration)]
    idle_timeout: Option<Duration>,

    /// Close a connection whose client has read nothing for this long [default: 0, never]
    #[arg(long, value_name = "DUR", env = "ECHOD_WRITE_TIMEOUT", value_parser = duration)]
    write_timeout: Option<Duration>,

    /// Close a connection older than this [default: 0, never]
    #[arg(long, value_name = "DUR", env = "ECHOD_MAX_LIFETIME", value_parser = duration)]
    max_lifetime: Option<Duration>,

    /// On SIGTERM, keep accepting for this long before the shutdown begins, so that a load balancer can
    /// notice; another signal ends the delay
    #[arg(
        long,
        value_name = "DUR",
        env = "ECHOD_SHUTDOWN_DELAY",
        value_parser = duration,
        default_value = "0s"
    )]
    pub(crate) shutdown_delay: Duration,

    /// On shutdown, wait this long for connections to finish, then abort the rest
    #[arg(
        long,
        value_name = "DUR",
        env = "ECHOD_DRAIN_TIMEOUT",
        value_parser = duration,
        default_value = "5s"
    )]
    pub(crate) drain_timeout: Duration,

    /// Busy-poll up to this long, at most 20ms, for the next message: lower latency, more CPU; 0 turns
    /// it off
    #[arg(
        long,
        value_name = "DUR",
        env = "ECHOD_BUSY_POLL",
        value_parser = duration,
        default_value = "50us"
    )]
    pub(crate) busy_poll: Duration,

    /// Event loops per service, each on one thread [default: one for every two processors]
    #[arg(long, value_name = "N", env = "ECHOD_REACTORS", value_parser = reactors)]
    pub(crate) reactors: Option<NonZeroUsize>,

    /// Listen backlog per address (capped by net.core.somaxconn)
    #[arg(
        long,
        value_name = "N",
        env = "ECHOD_BACKLOG",
        value_parser = backlog,
        default_value_t = Builder::BACKLOG
    )]
    pub(crate) backlog: u32,

    /// Share each address with another echod of the same user, for a restart without a gap:
    /// start the new one, which gets all new clients, then stop the old one
    #[arg(long, env = "ECHOD_REUSE_PORT", value_parser = truth)]
    pub(crate) reuse_port: bool,

    /// Size of the kernel's send and receive buffers of each connection; bounds memory, and the rate over
    /// a long path [default: 0, the kernel adjusts them]
    #[arg(long, value_name = "SIZE", env = "ECHOD_SOCKET_BUFFERS", value_parser = size)]
    socket_buffers: Option<usize>,

    /// Send this line before the echo; %h is the name of this machine, %l the local address, %p the
    /// client's address, %% a percent sign
    #[arg(long, value_name = "TEXT", env = "ECHOD_BANNER")]
    pub(crate) banner: Option<Banner>,

    /// Once listening, print one address a line, then close standard output
    #[arg(long, env = "ECHOD_PRINT_ADDR", value_parser = truth)]
    pub(crate) print_addr: bool,

    /// Log text, or one JSON object a line
    #[arg(
        long,
        value_name = "FORMAT",
        env = "ECHOD_LOG_FORMAT",
        value_enum,
        ignore_case = true,
        default_value_t = Format::Text
    )]
    pub(crate) log_format: Format,

    /// Log each connection when it is accepted and when it has ended, with the reason (see the manual)
    #[arg(short, long, action = ArgAction::Count, env = "ECHOD_VERBOSE", value_parser = times)]
    verbose: u8,

    /// Log only warnings (-q), or only errors (-qq); each -q cancels one -v
    #[arg(short, long, action = ArgAction::Count, env = "ECHOD_QUIET", value_parser = times)]
    quiet: u8,

    /// The settings that were given, each with the flag or the variable that gave it.
    #[arg(skip)]
    pub(crate) given: Given,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AtLimit {
    Wait,
    Reject,
}

impl From<AtLimit> for socketserver::AtLimit {
    fn from(at_limit: AtLimit) -> Self {
        match at_limit {
            AtLimit::Wait => Self::Wait,
            AtLimit::Reject => Self::Reject,
        }
    }
}

impl Cli {
    pub(crate) fn max_per_source(&self) -> Option<usize> {
        self.max_per_source.filter(|&count| count > 0)
    }

    pub(crate) fn socket_buffers(&self) -> Option<usize> {
        self.socket_buffers.filter(|&size| size > 0)
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout.filter(|timeout| !timeout.is_zero())
    }

    pub(crate) fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout.filter(|timeout| !timeout.is_zero())
    }

    pub(crate) fn max_lifetime(&self) -> Option<Duration> {
        self.max_lifetime.filter(|lifetime| !lifetime.is_zero())
    }

    pub(crate) fn log_level(&self) -> LevelFilter {
        match i16::from(self.verbose) - i16::from(self.quiet) {
            ..=-2 => LevelFilter::Error,
            -1 => LevelFilter::Warn,
            0 => LevelFilter::Info,
            1 => LevelFilter::Debug,
            2.. => LevelFilter::Trace,
        }
    }
}

fn default_max_connections() -> NonZeroUsize {
    NonZeroUsize::new(Builder::MAX_CONNECTIONS).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_default_to_the_librarys() {
        let cli = Cli::try_parse_from(["echod"]).unwrap();
        assert_eq!(cli.drain_timeout, Builder::DRAIN_TIMEOUT);
        assert_eq!(cli.busy_poll, Builder::BUSY_POLL);
    }

    #[test]
    fn v_and_q_choose_the_level() {
        let level = |args: &[&str]| Cli::try_parse_from(args).unwrap().log_level();
        assert_eq!(level(&["echod"]), LevelFilter::Info);
        assert_eq!(level(&["echod", "-v"]), LevelFilter::Debug);
        assert_eq!(level(&["echod", "-vv"]), LevelFilter::Trace);
        assert_eq!(level(&["echod", "-q"]), LevelFilter::Warn);
        assert_eq!(level(&["echod", "-qq"]), LevelFilter::Error);
        assert_eq!(level(&["echod", "-v", "-qq"]), LevelFilter::Warn);
    }
}
