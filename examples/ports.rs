//! What listens on this machine, and what its port is for, by convention.
//!
//! ```sh
//! cargo run --example ports               # the well-known ports, below 1024
//! cargo run --example ports -- --all      # the others, too: an `echod` that runs is at 7007
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
        // The port by its name in the services database, `/etc/services`, if it has one there.
        let (host, service) = dns_lookup::getnameinfo(&addr, NI_NUMERICHOST)?;
        let (port, purpose) = (addr.port(), purpose(&service));
        print(format_args!("{port:<6} {service:<13} {host:<16} {purpose}"));
    }
    Ok(())
}

fn purpose(service: &str) -> &'static str {
    match service {
        "echo" => "sends back what it is sent",
        "discard" => "throws away what it is sent",
        "daytime" | "time" => "says what time it is",
        "ftp" => "files",
        "ssh" => "a shell on this machine, encrypted",
        "telnet" => "a shell on this machine, readable by everyone between",
        "smtp" | "submission" => "takes mail",
        "pop3" | "pop3s" | "imap2" | "imap" | "imaps" => "hands out mail",
        "domain" => "DNS: addresses for names",
        "http" | "https" => "the web",
        "ipp" => "printers",
        _ => "-",
    }
}

/// The addresses that TCP sockets listen on, IPv4 and IPv6.
#[cfg(target_os = "linux")]
fn listening() -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    use procfs::net::{TcpState, tcp, tcp6};
    // Without IPv6 there is no such file.
    let sockets = tcp()?.into_iter().chain(tcp6().unwrap_or_default());
    let listening = sockets.filter(|socket| socket.state == TcpState::Listen);
    Ok(listening.map(|socket| socket.local_address).collect())
}

#[cfg(not(target_os = "linux"))]
fn listening() -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    Err("it reads Linux's /proc/net/tcp; here, try `netstat -an`".into())
}
