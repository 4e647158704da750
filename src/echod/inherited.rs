//! Sockets that were opened before this process began, by a service manager or a super-server.

use std::env;
use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use clap::ValueEnum;
use listenfd::ListenFd;
use rustix::fs::fstat;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use socket2::{SockRef, Type};

use crate::service::Service;

/// What there was at the start. A listener on standard input (`wait` in `inetd.conf(5)`) is one of the
/// listeners.
#[derive(Debug)]
pub(crate) enum Inherited {
    /// Listeners, each for a service: none, if nobody passed any.
    Listeners(Vec<(Service, TcpListener)>),
    /// One connection, on standard input (`inetd(8)`, or `Accept=yes` in `systemd.socket(5)`).
    Connection(TcpStream),
}

/// Takes what was inherited. It changes the environment, so there must be one thread only.
pub(crate) fn take() -> Result<Inherited, String> {
    // Without a process it is not known to be for this one (`sd_listen_fds(3)`).
    let mut passed = match env::var_os("LISTEN_PID") {
        Some(_) => ListenFd::from_env(),
        None => ListenFd::empty(),
    };
    if is_tcp(io::stdin()) {
        // A service manager that accepts passes it once more.
        (0..passed.len()).for_each(|index| drop(passed.take_tcp_listener(index)));
        return take_stdin()
            .map_err(|error| format!("cannot take the socket on standard input: {error}"));
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    (0..passed.len())
        .map(|index| {
            let name = names.next().unwrap_or_default();
            take_listener(&mut passed, index, name)
                .map_err(|cause| format!("cannot serve the inherited socket {name:?}: {cause}"))
        })
        .collect::<Result<_, _>>()
        .map(Inherited::Listeners)
}

fn take_listener(
    passed: &mut ListenFd,
    index: usize,
    name: &str,
) -> Result<(Service, TcpListener), String> {
    let listener = passed
        .take_tcp_listener(index)
        .map_err(|error| error.to_string())?
        .ok_or("it was taken already")?;
    if !listens(&listener) {
        return Err("it does not listen; with Accept=yes, set StandardInput=socket".to_owned());
    }
    Ok((service(name)?, listener))
}

/// Returns what `FileDescriptorName=` asks for. Without one the name is that of the socket's unit
/// (`sd_listen_fds_with_names(3)`), and it is for the echo.
fn service(name: &str) -> Result<Service, String> {
    if matches!(name, "" | "unknown") || name.ends_with(".socket") {
        return Ok(Service::Echo);
    }
    Service::from_str(name, false).map_err(|_| "that is not the name of a service".to_owned())
}

/// Returns whether it is a TCP socket. One whose peer has reset it has no peer, but is one.
fn is_tcp(fd: impl AsFd) -> bool {
    let socket = SockRef::from(&fd);
    socket.r#type().is_ok_and(|kind| kind == Type::STREAM)
        && socket
            .local_addr()
            .is_ok_and(|addr| addr.as_socket().is_some())
}

#[cfg(not(target_vendor = "apple"))]
fn listens(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// Apple's systems don't say (`SO_ACCEPTCONN`), but who listens has no peer.
#[cfg(target_vendor = "apple")]
fn listens(socket: impl AsFd) -> bool {
    SockRef::from(&socket).peer_addr().is_err()
}

/// Takes the socket off the standard descriptors, so that it is held once, and nothing that is printed
/// or logged gets into it.
fn take_stdin() -> io::Result<Inherited> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(&null)?;
    if is_same(io::stdout(), &socket) {
        dup2_stdout(&null)?;
    }
    if is_same(io::stderr(), &socket) {
        dup2_stderr(&null)?;
    }
    if listens(&socket) {
        return Ok(Inherited::Listeners(vec![(Service::Echo, socket.into())]));
    }
    Ok(Inherited::Connection(socket.into()))
}

fn is_same(fd: impl AsFd, socket: impl AsFd) -> bool {
    let [fd, socket] = [fstat(fd), fstat(socket)].map(|it| it.map(|it| (it.st_dev, it.st_ino)));
    fd.is_ok() && fd.ok() == socket.ok()
}
