//! The subcommands of `echod`, with their flags.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::values::{count, duration, number, positive, size};
use crate::address::ListenAddr;
use crate::generate::Artifact;
use crate::help;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Test the echo server at ADDR and exit
    ///
    /// A probe connects, sends random bytes, compares the echo with them, half-closes, and expects
    /// the end of the connection. If ADDR resolves to several addresses, the probe tests the first that
    /// accepts. A probe reads no ECHOD_ variables.
    #[command(after_help = help::probe())]
    Probe(Probe),

    /// Print the manual or a shell's completions, and exit
    #[command(hide = true)]
    Generate {
        /// What to print
        #[arg(value_enum)]
        artifact: Artifact,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// Address to test; without a host, this machine
    #[arg(value_name = "ADDR")]
    pub(crate) target: ListenAddr,

    /// Time limit for each connection, excluding name resolution
    #[arg(short, long, value_name = "DUR", value_parser = positive, default_value = "3s")]
    pub(crate) timeout: Duration,

    /// Number of probes; 0 means until Ctrl-C
    #[arg(short, long, value_name = "N", value_parser = number::<u64>, default_value_t = 1)]
    pub(crate) count: u64,

    /// Time from the start of a probe to the start of the next
    #[arg(short, long, value_name = "DUR", value_parser = duration, default_value = "1s")]
    pub(crate) interval: Duration,

    /// Bytes to send on each connection
    #[arg(short, long, value_name = "SIZE", value_parser = bytes, default_value = "1024")]
    pub(crate) size: NonZeroU64,

    /// Connections per probe; all are opened before the first is tested
    #[arg(long, value_name = "N", value_parser = count::<NonZeroUsize>, default_value = "1")]
    pub(crate) connections: NonZeroUsize,

    /// Print text, or one JSON object per probe and one at the end
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        ignore_case = true,
        default_value_t = Format::Text
    )]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

fn bytes(text: &str) -> Result<NonZeroU64, &'static str> {
    NonZeroU64::new(size(text)? as u64).ok_or("must be greater than 0")
}
