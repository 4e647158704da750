//! Lists the TCP ports that programs on this machine listen on, and what each port is for by convention.
//!
//! ```sh
//! cargo run --example ports               # the well-known ports, below 1024
//! cargo run --example ports -- --all      # all ports: a running `echod` is at 7007
//! ```

mod support;

use std::{env, error::Error, net::SocketAddr, process::ExitCode};

use nix::libc::NI_NUMERICHOST;
use support::{complain, print};

fn main() -> ExitCode {
    let highest = match env::args_os().nth(1) {
        None => 1023,
        Some(arg) if arg == "--all" => u16::MAX,
        Some(_) => {
            complain("usage: ports [--all]");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = show(highest) {
        complain(format_args!("ports: {error}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn show(highest: u16) -> Result<(), Box<dyn Error>> {
    let mut addrs = listening()?;
    addrs.retain(|addr| addr.port() <= highest);
    addrs.sort_by_key(|addr| (addr.port(), addr.ip()));
    // Several sockets may share an address (`SO_REUSEPORT`).
    addrs.dedup();
    print("PORT   SERVICE       ADDRESS          FOR");
    for addr in addrs {
        // The name of the port in the database `/etc/services`, or else its number.
        let (host, service) = dns_lookup::getnameinfo(&addr, NI_NUMERICHOST)?;
        let (port, purpose) = (addr.port(), purpose(&service));
        print(format_args!("{port:<6} {service:<13} {host:<16} {purpose}"));
    }
    Ok(())
}

fn purpose(service: &str) -> &'static str {
    match service {
        "echo" => "sends back what it receives",
        "discard" => "discards what it receives",
        "daytime" | "time" => "sends the date and time",
        "ftp" => "files",
        "ssh" => "a shell on this machine, encrypted",
        "telnet" => "a shell on this machine, not encrypted",
        "smtp" | "submission" => "receives mail",
        "pop3" | "pop3s" | "imap2" | "imap" | "imaps" => "a mailbox, for its owner",
        "domain" => "DNS: addresses for names",
        "http" | "https" => "the web",
        "ipp" => "printers",
        _ => "-",
    }
}

/// Returns the addresses that TCP sockets listen on, IPv4 and IPv6.
#[cfg(target_os = "linux")]
fn listening() -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    use procfs::net::{TcpState, tcp, tcp6};
    // A kernel without IPv6 has no `/proc/net/tcp6`.
    let sockets = tcp()?.into_iter().chain(tcp6().unwrap_or_default());
    let listening = sockets.filter(|socket| socket.state == TcpState::Listen);
    Ok(listening.map(|socket| socket.local_address).collect())
}

#[cfg(not(target_os = "linux"))]
fn listening() -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    Err("this example reads /proc/net/tcp, which only Linux has; try `netstat -an`".into())
}
