//! What listens on this machine, and what its port is for, by convention.
//!
//! ```sh
//! cargo run --example ports               # the well-known ports, below 1024
//! cargo run --example ports -- --all      # the others, too: an `echod` that runs is at 7007
//! ```
//!
//! Any program may listen on any port, though below 1024 the system asks for privileges. That a
//! web server is at port 80 is a convention, which saves its clients the question.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::env;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use nix::libc::NI_NUMERICHOST;

fn main() -> ExitCode {
    let ports = match env::args_os().nth(1) {
        None => 0..=1023,
        Some(arg) if arg == "--all" => 0..=u16::MAX,
        Some(_) => {
            eprintln!("usage: ports [--all]");
            return ExitCode::from(2);
        }
    };
    let mut addrs = match listening() {
        Ok(addrs) => addrs,
        Err(error) => {
            eprintln!("ports: {error}");
            return ExitCode::FAILURE;
        }
    };
    addrs.retain(|addr| ports.contains(&addr.port()));
    addrs.sort_by_key(|addr| (addr.port(), addr.ip()));
    // Several sockets may share an address (`SO_REUSEPORT`).
    addrs.dedup();
    if addrs.is_empty() {
        eprintln!("nobody listens on a well-known port; --all shows the others");
        return ExitCode::SUCCESS;
    }
    println!("PORT   SERVICE       ADDRESS          FOR");
    for addr in addrs {
        let service = service(addr.port());
        let (port, host, purpose) = (addr.port(), addr.ip().to_string(), purpose(&service));
        println!(
            "{}",
            format!("{port:<6} {service:<13} {host:<16} {purpose}").trim_end()
        );
    }
    ExitCode::SUCCESS
}

/// The name of a port in the services database, `/etc/services`; a dash for those without.
fn service(port: u16) -> String {
    // The database is asked by way of an address, whose host shall not be looked up as well.
    let addr = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    match dns_lookup::getnameinfo(&addr, NI_NUMERICHOST) {
        Ok((_, name)) if name != port.to_string() => name,
        _ => "-".to_owned(),
    }
}

fn purpose(service: &str) -> &'static str {
    match service {
        "echo" => "sends back what it is sent",
        "discard" => "takes what it is sent, and says nothing",
        "daytime" => "says what time it is, to people",
        "time" => "says what time it is, to programs",
        "ftp" => "files",
        "ssh" => "a shell on this machine, encrypted",
        "telnet" => "a shell on this machine, readable by everyone between",
        "smtp" | "submission" => "takes mail",
        "pop3" | "pop3s" | "imap2" | "imap" | "imaps" => "hands out mail",
        "domain" => "DNS: addresses for names",
        "http" | "https" => "the web",
        "ipp" => "printers",
        _ => "",
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
