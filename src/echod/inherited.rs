//! Sockets that this process inherited from a service manager or a super-server.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::str::FromStr;
use std::{env, fmt, io, process};

use clap::ValueEnum;
use listenfd::ListenFd;
use rustix::fs::fstat;
#[cfg(target_os = "linux")]
use rustix::fs::fstatfs;
#[cfg(target_os = "linux")]
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::process::{Resource, getrlimit};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use socket2::{Domain, SockRef, Type};

use crate::service::{self, Service};

/// The sockets that this process inherited. A listener on standard input (`wait` in `inetd.conf(5)`) counts
/// among the listeners.
#[derive(Debug)]
pub(crate) enum Inherited {
    /// Listeners, each for a service. Empty if none were passed.
    Listeners(Vec<(Service, TcpListener)>),
    /// One connection, on standard input (`inetd(8)`, or `Accept=yes` in `systemd.socket(5)`).
    Connection(TcpStream),
}

/// Takes the inherited sockets. The process must have only one thread, because this changes the environment.
pub(crate) fn take() -> Result<Inherited, String> {
    let mut passed = passed()?;
    match kind(io::stdin()) {
        Some(Kind::TcpListener | Kind::TcpConnection) => {}
        // `sshd(8)` and other programs give their children a Unix connection in place of a pipe.
        Some(Kind::UnixConnection) | None => return passed.serve(),
        Some(kind) => {
            return Err(format!(
                "cannot serve standard input: it is {kind}; expected a TCP socket"
            ));
        }
    }
    passed.drop_if_on_stdin()?;
    take_stdin().map_err(|error| format!("cannot take the socket on standard input: {error}"))
}

/// Warns if standard input is a socket that [`take`] did not take.
pub(crate) fn warn_about_stdin() {
    if let Some(kind) = kind(io::stdin()) {
        log::warn!("standard input is {kind}, and is not served; expected a TCP socket");
    }
}

/// The descriptors that a service manager passed (`sd_listen_fds(3)`).
struct Passed {
    descriptors: ListenFd,
    first: u32,
    names: Vec<String>,
}

/// Reads the variables of `sd_listen_fds(3)`, if they are meant for this process.
fn passed() -> Result<Passed, String> {
    let none = Passed {
        descriptors: ListenFd::empty(),
        first: 3,
        names: Vec::new(),
    };
    // A parent may have passed on variables that describe its own descriptors.
    if number::<u32>("LISTEN_PID", "the number of a process")? != Some(process::id()) {
        return Ok(none);
    }
    // A process number may be used again, but the number of a pidfd is never used again.
    let identity = number::<u64>("LISTEN_PIDFDID", "the identity of a process")?;
    if identity.is_some_and(|identity| own_identity().is_some_and(|own| own != identity)) {
        return Ok(none);
    }
    let Some(count) = number::<u32>("LISTEN_FDS", "a number of descriptors")? else {
        return Ok(none);
    };
    // `listenfd` reads this variable, too. systemd doesn't set it.
    let first = number::<u16>("LISTEN_FDS_FIRST_FD", "a descriptor")?.unwrap_or(3);
    let first = u32::from(first);
    // Check this first, because the code below allocates memory for `count` descriptors.
    if let Some(closed) = (first..first.saturating_add(count)).find(|&fd| !may_be_open(fd)) {
        return Err(format!(
            "LISTEN_FDS={:?} is wrong: descriptor {closed} is not open",
            count.to_string()
        ));
    }
    let names = match env::var_os("LISTEN_FDNAMES") {
        None => vec!["unknown".to_owned(); count as usize],
        Some(names) => {
            let text = names.to_string_lossy();
            let names: Vec<_> = text.split(':').map(str::to_owned).collect();
            if names.len() != count as usize && count > 0 {
                return Err(format!(
                    "LISTEN_FDNAMES={text:?} is wrong: expected as many names as LISTEN_FDS says, {count}"
                ));
            }
            names
        }
    };
    Ok(Passed {
        descriptors: ListenFd::from_env(),
        first,
        names,
    })
}

impl Passed {
    /// Takes all descriptors as listeners, each for the service of its name.
    fn serve(mut self) -> Result<Inherited, String> {
        (0..self.descriptors.len())
            .map(|index| self.take_listener(index))
            .collect::<Result<_, _>>()
            .map(Inherited::Listeners)
    }

    fn take_listener(&mut self, index: usize) -> Result<(Service, TcpListener), String> {
        let wrong = |kind: &dyn fmt::Display| format!("is {kind}; expected a listening TCP socket");
        let result = match self.take_socket(index) {
            Err(kind) => Err(wrong(&kind)),
            Ok(socket) => match kind(&socket) {
                Some(Kind::TcpListener) => {
                    service(&self.names[index]).map(|service| (service, socket.into()))
                }
                Some(kind @ Kind::TcpConnection) => Err(format!(
                    "{}; with Accept=yes, set StandardInput=socket",
                    wrong(&kind)
                )),
                Some(kind) => Err(wrong(&kind)),
                None => Err(wrong(&"not a socket")),
            },
        };
        result.map_err(|what| format!("{} {what}", self.describe(index)))
    }

    /// Takes a socket of any kind, or returns what else the descriptor is.
    fn take_socket(&mut self, index: usize) -> Result<OwnedFd, &'static str> {
        for domain in [Domain::IPV4, Domain::UNIX] {
            for kind in [Type::STREAM, Type::DGRAM, Type::SEQPACKET, Type::RAW] {
                let taken =
                    self.descriptors
                        .take_custom(index, domain.into(), kind.into(), "socket");
                if let Ok(Some(socket)) = taken {
                    return Ok(socket);
                }
            }
        }
        let path = format!("/proc/self/fd/{}", self.first as usize + index);
        let is_socket = fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
        Err(if is_socket {
            "a socket of another family"
        } else {
            "not a socket"
        })
    }

    /// Closes the descriptors that are the socket on standard input once more.
    ///
    /// # Errors
    ///
    /// A descriptor is something else. Then it is not clear which socket to serve.
    fn drop_if_on_stdin(&mut self) -> Result<(), String> {
        for index in 0..self.descriptors.len() {
            let taken = self.take_socket(index);
            if !taken.is_ok_and(|socket| is_same(io::stdin(), socket)) {
                return Err(format!(
                    "{} is not the socket on standard input; pass one or the other",
                    self.describe(index)
                ));
            }
        }
        Ok(())
    }

    fn describe(&self, index: usize) -> String {
        format!(
            "descriptor {} ({:?})",
            self.first as usize + index,
            self.names[index]
        )
    }
}

/// Reads a variable that must be a number or unset.
fn number<N: FromStr>(variable: &str, expected: &str) -> Result<Option<N>, String> {
    let Some(value) = env::var_os(variable) else {
        return Ok(None);
    };
    let value = value.to_string_lossy();
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(format!(
            "{variable}={value:?} is wrong: expected {expected}"
        )),
    }
}

/// Returns whether a descriptor is open. Without `/proc`, returns whether the limit allows its number.
fn may_be_open(fd: u32) -> bool {
    let open = Path::new("/proc/self/fd");
    if open.exists() {
        return fs::symlink_metadata(open.join(fd.to_string())).is_ok();
    }
    let limit = getrlimit(Resource::Nofile).current;
    limit.is_none_or(|limit| u64::from(fd) < limit)
}

/// Returns the inode number of this process's pidfd. Since Linux 6.9 no other process ever has the same one
/// (`pidfd_open(2)`).
#[cfg(target_os = "linux")]
fn own_identity() -> Option<u64> {
    const PIDFS_MAGIC: u64 = 0x5049_4446;
    let own = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    // On older kernels all pidfds share one inode.
    let is_unique = fstatfs(&own).ok()?.f_type.cast_unsigned() == PIDFS_MAGIC;
    is_unique.then(|| fstat(&own).ok().map(|stat| stat.st_ino))?
}

#[cfg(not(target_os = "linux"))]
fn own_identity() -> Option<u64> {
    None
}

/// Returns the service that `FileDescriptorName=` names.
///
/// Without that setting, systemd names the descriptor after its socket unit (`sd_listen_fds_with_names(3)`).
/// Such a descriptor is for the echo.
fn service(name: &str) -> Result<Service, String> {
    if matches!(name, "" | "unknown") || name.ends_with(".socket") {
        return Ok(Service::Echo);
    }
    Service::from_str(name, false).map_err(|_| {
        format!(
            "is not named after a service; set FileDescriptorName= to one of: {}",
            service::names()
        )
    })
}

/// The kind of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    TcpListener,
    /// A connection that its peer has reset counts, too, although `getpeername(2)` fails on it.
    TcpConnection,
    Udp,
    UnixListener,
    UnixConnection,
    UnixOther,
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpListener => "a listening TCP socket",
            Self::TcpConnection => "a TCP connection",
            Self::Udp => "a UDP socket",
            Self::UnixListener => "a listening Unix socket",
            Self::UnixConnection => "a Unix stream connection",
            Self::UnixOther => "a Unix socket without a connection",
            Self::Other => "a socket of another kind",
        })
    }
}

/// Returns the kind of a socket, or `None` if the descriptor is not a socket.
fn kind(fd: impl AsFd) -> Option<Kind> {
    let socket = SockRef::from(&fd);
    let kind = socket.r#type().ok()?;
    let domain = socket.local_addr().ok().map(|addr| addr.domain());
    Some(match (domain, kind) {
        (Some(Domain::IPV4 | Domain::IPV6), Type::STREAM) if listens(&fd) => Kind::TcpListener,
        (Some(Domain::IPV4 | Domain::IPV6), Type::STREAM) => Kind::TcpConnection,
        (Some(Domain::IPV4 | Domain::IPV6), Type::DGRAM) => Kind::Udp,
        (Some(Domain::UNIX), Type::STREAM) if listens(&fd) => Kind::UnixListener,
        (Some(Domain::UNIX), Type::STREAM) if socket.peer_addr().is_ok() => Kind::UnixConnection,
        (Some(Domain::UNIX), _) => Kind::UnixOther,
        _ => Kind::Other,
    })
}

#[cfg(not(target_vendor = "apple"))]
fn listens(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// Apple's systems lack `SO_ACCEPTCONN`. A listening socket has no peer, so that tells it apart.
#[cfg(target_vendor = "apple")]
fn listens(socket: impl AsFd) -> bool {
    SockRef::from(&socket).peer_addr().is_err()
}

/// Moves the socket from the standard descriptors to a descriptor of its own.
///
/// Otherwise the client would get what this process prints or logs, and the connection would stay open after
/// the server has closed its descriptor.
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
