//! What does an echo server do with the machine it has?
//!
//! ```sh
//! cargo bench --bench peers -- --addr 127.0.0.1:7007 --work pingpong-128-50
//! ```

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

mod descriptors;
mod figures;
mod load;
mod usage;
mod works;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use comfy_table::{Table, presets};

use load::Target;
use usage::Meter;
use works::Work;

#[derive(Parser)]
#[command(name = "peers", about = "Measures echo servers")]
struct Cli {
    /// Measure a server that runs already
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    addr: SocketAddr,

    /// Its process, or the first of its group: for its CPU time and memory
    #[arg(long)]
    pid: Option<i32>,

    /// Do these works, by name or by what their names begin with
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = works)]
    work: Vec<Vec<Work>>,

    /// Measure for this long, after a warm-up
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,

    /// What cargo says
    #[arg(long, hide = true)]
    bench: bool,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addrs = text.to_socket_addrs().map_err(|error| error.to_string())?;
    let addr = addrs.next().ok_or("the name has no address")?;
    if addr.ip().is_loopback() {
        Ok(addr)
    } else {
        Err("not an address of loopback: a load like this is for no network".to_owned())
    }
}

fn works(name: &str) -> Result<Vec<Work>, String> {
    Work::select(name)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    descriptors::raise_limit();
    let target = Target {
        addr: cli.addr,
        meter: cli.pid.map(Meter::new),
        warm_up: Duration::from_secs_f64(cli.seconds / 4.0),
        time: Duration::from_secs_f64(cli.seconds),
    };
    for work in cli.work.into_iter().flatten() {
        let checked = descriptors::check(work).map_err(load::Failure::new);
        match checked.and_then(|()| load::run(work, &target)) {
            Ok(figures) => {
                let mut table = Table::new();
                table.load_style(presets::ASCII_MARKDOWN);
                let headers = figures.iter().map(|(figure, _)| figure.header().to_owned());
                table.set_header(["work".to_owned()].into_iter().chain(headers));
                let values = figures.iter().map(|(figure, value)| figure.show(*value));
                table.add_row([work.to_string()].into_iter().chain(values));
                println!("{table}\n");
            }
            Err(failure) => println!("{work}: {failure}\n"),
        }
    }
    ExitCode::SUCCESS
}
