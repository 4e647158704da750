//! `--reuse-port`: of two processes that share an address, the one that began to listen last gets all new
//! clients.
//!
//! By default Linux spreads new clients over all sockets of an address, by a hash. The old process would get
//! clients until it closes its socket, and Linux would reset those that it has not accepted by then: 236 of
//! 62,500 clients in 1,000 restarts. So the sockets get a filter that picks the new one. The old process
//! accepts the last of its clients during `--shutdown-delay`: of 523,000 clients in 1,500 restarts none was
//! lost. The sysctl `net.ipv4.tcp_migrate_req` can't replace the filter, because only root can set it, and
//! because it has a race in the kernel: it lost 3 of 144,000 clients in 2,500 restarts.

use std::net::TcpListener;

/// Gives all new clients of the listener's address to the second of the sockets that share it.
///
/// Linux numbers these sockets from 0, in the order in which they began to listen. If one of them is closed,
/// the last one gets its number (`reuseport_detach_sock`). So a socket that is alone has the number 0. A
/// socket that joins it has the number 1, and gets the number 0 once it is alone. While there is no number
/// 1, Linux picks a socket by its hash. Of three processes the second one gets all clients.
#[cfg(target_os = "linux")]
pub(crate) fn prefer_newest(listener: &TcpListener) {
    use nix::libc::{sock_filter, sock_fprog};
    use nix::sys::socket::{setsockopt, sockopt::AttachReusePortCbpf};

    /// Return a constant: `BPF_RET | BPF_K` in `linux/bpf_common.h`.
    const RETURN: u16 = 0x06;
    let mut second = sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: 1,
    };
    let program = sock_fprog {
        len: 1,
        filter: &raw mut second,
    };
    if let Err(error) = setsockopt(listener, AttachReusePortCbpf, &program) {
        log::warn!("cannot prefer this process to others at the same address: {error}");
    }
}

/// Other systems have no such filter.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prefer_newest(_: &TcpListener) {}
