//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

use crate::contenders::{CONTENDERS, Contender};
use crate::workloads::Workload;

const QUICK: [&str; 4] = ["pingpong-128-1", "pingpong-128-50", "connect", "bulk-1"];

/// Runs the same workloads against each server in turn, in several rounds, and prints medians and ratios.
///
/// All traffic is on loopback. Every byte that comes back is compared.
#[derive(Parser)]
#[command(
    name = "peers",
    bin_name = "cargo bench --bench peers --",
    max_term_width = 100
)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Cli {
    /// Measure these servers [default: all, see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = contender)]
    contender: Vec<&'static Contender>,

    /// Run the workloads with these names, or whose names begin so [default: all, see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = workloads)]
    workload: Vec<Vec<Workload>>,

    /// Number of rounds [default: 5, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,

    /// Seconds to measure each workload, after a quarter of that to warm up [default: 1, with --quick 0.3]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,

    /// Run pingpong-128-1, pingpong-128-50, connect and bulk-1, once
    #[arg(long)]
    quick: bool,

    /// Print the servers and the workloads, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Write the results to benches/peers.svg and benches/peers/README.md
    #[arg(long, conflicts_with = "addr")]
    pub(crate) save: bool,

    /// Measure a server that is already running
    #[arg(long, value_name = "HOST:PORT", value_parser = address, conflicts_with = "contender")]
    pub(crate) addr: Option<SocketAddr>,

    /// Process of that server, or leader of its process group, to measure CPU time and memory
    #[arg(long, requires = "addr")]
    pub(crate) pid: Option<i32>,

    /// Accepted because cargo passes it to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Cli {
    pub(crate) fn contenders(&self) -> impl Iterator<Item = &'static Contender> {
        let named = |contender: &&Contender| {
            self.contender
                .iter()
                .any(|named| named.name == contender.name)
        };
        let all = self.contender.is_empty();
        CONTENDERS
            .iter()
            .filter(move |contender| all || named(contender))
    }

    /// Returns whether the user named the servers. A named server must not fail.
    pub(crate) fn has_named_contenders(&self) -> bool {
        !self.contender.is_empty() || self.addr.is_some()
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        if !self.workload.is_empty() {
            return self.workload.concat();
        }
        let mut workloads = Workload::all();
        workloads.retain(|workload| !self.quick || QUICK.contains(&&*workload.to_string()));
        workloads
    }

    pub(crate) fn rounds(&self) -> usize {
        let default = if self.quick { 1 } else { 5 };
        self.rounds.unwrap_or(default).into()
    }

    pub(crate) fn time(&self) -> Duration {
        let default = if self.quick { 300 } else { 1000 };
        self.seconds.unwrap_or(Duration::from_millis(default))
    }
}

fn contender(name: &str) -> Result<&'static Contender, String> {
    let contender = CONTENDERS.iter().find(|contender| contender.name == name);
    contender.ok_or_else(|| {
        let names: Vec<_> = CONTENDERS.iter().map(|contender| contender.name).collect();
        format!("unknown server; known servers: {}", names.join(", "))
    })
}

fn workloads(name: &str) -> Result<Vec<Workload>, String> {
    Workload::select(name)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time.is_zero() {
        return Err("must be greater than 0".to_owned());
    }
    Ok(time)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addrs = text.to_socket_addrs().map_err(|error| error.to_string())?;
    let addr = addrs.next().ok_or("the name resolves to no address")?;
    if addr.ip().is_loopback() {
        return Ok(addr);
    }
    Err("not a loopback address; this load would flood a network".to_owned())
}
