//! The command line.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

use crate::peers::{PEERS, Peer};
use crate::works::Work;

const QUICK: [&str; 4] = ["pingpong-128-1", "pingpong-128-50", "connect", "bulk-1"];

/// Starts each server in turn, several rounds, on the same work, and prints medians and ratios.
///
/// All of it is on loopback, and every byte that comes back is compared.
#[derive(Parser)]
#[command(
    name = "peers",
    bin_name = "cargo bench --bench peers --",
    max_term_width = 100
)]
#[allow(clippy::struct_excessive_bools, reason = "flags are")]
pub(crate) struct Cli {
    /// Measure these servers [default: all, see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = peer)]
    peer: Vec<&'static Peer>,

    /// Do these works, by name, or by what their names begin with [default: all, see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = works)]
    work: Vec<Vec<Work>>,

    /// Do it so often [default: 5, with --quick 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,

    /// Measure so long, after a quarter of it to warm up [default: 1, with --quick 0.3]
    #[arg(long, value_name = "S", value_parser = seconds)]
    seconds: Option<Duration>,

    /// Do pingpong-128-1, pingpong-128-50, connect and bulk-1, once
    #[arg(long)]
    quick: bool,

    /// Print the servers and the works, and measure nothing
    #[arg(long)]
    pub(crate) list: bool,

    /// Write what was measured to benches/peers.svg and benches/peers/README.md
    #[arg(long, conflicts_with = "addr")]
    pub(crate) save: bool,

    /// Measure a server that runs already
    #[arg(long, value_name = "HOST:PORT", value_parser = address, conflicts_with = "peer")]
    pub(crate) addr: Option<SocketAddr>,

    /// Its process, or the first of its group, for its CPU time and memory
    #[arg(long, requires = "addr")]
    pub(crate) pid: Option<i32>,

    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Cli {
    pub(crate) fn peers(&self) -> impl Iterator<Item = &'static Peer> {
        let named = |peer: &&Peer| self.peer.iter().any(|named| named.name == peer.name);
        let all = self.peer.is_empty();
        PEERS.iter().filter(move |peer| all || named(peer))
    }

    /// Returns whether what it measures was asked for by name, and so must not fail.
    pub(crate) fn has_named_peers(&self) -> bool {
        !self.peer.is_empty() || self.addr.is_some()
    }

    pub(crate) fn works(&self) -> Vec<Work> {
        if !self.work.is_empty() {
            return self.work.concat();
        }
        let mut works = Work::all();
        works.retain(|work| !self.quick || QUICK.contains(&&*work.to_string()));
        works
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

fn peer(name: &str) -> Result<&'static Peer, String> {
    let peer = PEERS.iter().find(|peer| peer.name == name);
    peer.ok_or_else(|| {
        let names: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn works(name: &str) -> Result<Vec<Work>, String> {
    Work::select(name)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number")?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if time.is_zero() {
        return Err("nothing happens in no time".to_owned());
    }
    Ok(time)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addrs = text.to_socket_addrs().map_err(|error| error.to_string())?;
    let addr = addrs.next().ok_or("the name has no address")?;
    if addr.ip().is_loopback() {
        return Ok(addr);
    }
    Err("not an address of loopback: a load like this is for no network".to_owned())
}
