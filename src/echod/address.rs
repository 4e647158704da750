//! Parses the address to listen on, or to connect to, from the command line, and resolves it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

/// `HOST:PORT`, `:PORT` or `[IPV6]:PORT`, where PORT may be the name of a service.
///
/// Parsing splits the text, and rejects forms that `getaddrinfo(3)` reads as a surprising address. The
/// system resolves names later (`/etc/hosts`, `/etc/services`, DNS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddr {
    /// Empty or `*` means every address of this machine to a listener, and the loopback to a client.
    host: String,
    service: String,
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // People write a space after the comma of a list.
        let text = text.trim();
        if text.contains("://") {
            return Err("expected HOST:PORT, such as localhost:7007, not a URL".to_owned());
        }
        if text.starts_with(['/', '@', '.']) || text.starts_with("unix:") {
            return Err("expected HOST:PORT: Unix sockets are not supported, only TCP".to_owned());
        }
        if is_number(text) {
            return Err(format!(
                "expected HOST:PORT; write 127.0.0.1:{text} for this machine alone, :{text} for every \
                 network"
            ));
        }
        let (host, service) = text
            .rsplit_once(':')
            .filter(|(_, service)| !service.is_empty() && !service.ends_with(']'))
            .ok_or("expected HOST:PORT, :PORT or [IPV6]:PORT")?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        match bracketed {
            Some(ip) => check_ipv6(ip)?,
            None => check_host(host)?,
        }
        check_service(service)?;
        Ok(Self {
            host: bracketed.unwrap_or(host).to_owned(),
            service: service.to_owned(),
        })
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Checks the text in brackets: an IPv6 address, with or without a zone (RFC 4007), as in
/// `fe80::1%eth0`.
fn check_ipv6(ip: &str) -> Result<(), String> {
    let address = ip.split_once('%').map_or(ip, |(address, _zone)| address);
    match address.parse::<Ipv6Addr>() {
        Ok(_) => Ok(()),
        Err(_) if !ip.contains(':') => {
            Err("brackets are for IPv6 addresses, as in [::1]:7007".to_owned())
        }
        Err(_) => Err(format!("{ip:?} is not an IPv6 address")),
    }
}

/// Rejects hosts that `getaddrinfo(3)` reads as a surprising address.
///
/// `getaddrinfo(3)` reads `1` as 0.0.0.1, `010.0.0.1` as 8.0.0.1, and `127.0.0.1 x` as 127.0.0.1, because
/// it follows `inet_aton(3)`.
fn check_host(host: &str) -> Result<(), String> {
    if host.contains([':', '[', ']']) {
        return Err("an IPv6 address needs brackets, as in [::1]:7007".to_owned());
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "{host:?} is not a host name: it has a space or a control character"
        ));
    }
    // No top-level domain begins with a digit. So a host whose last label does must be an IPv4 address.
    let label = host.rsplit('.').find(|label| !label.is_empty());
    let is_address = label.is_some_and(|label| label.starts_with(|c: char| c.is_ascii_digit()));
    if is_address && host.parse::<Ipv4Addr>().is_err() {
        return Err(format!(
            "{host:?} is not an IPv4 address: expected four decimal numbers, as in 127.0.0.1"
        ));
    }
    Ok(())
}

/// Rejects services that `getaddrinfo(3)` reads as a surprising port.
///
/// `getaddrinfo(3)` reads `65543`, `-65529` and `+7` as 7, and `*` as 0.
fn check_service(service: &str) -> Result<(), String> {
    if is_number(service) {
        return match service.parse::<u16>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("port {service} is above 65535, the highest port")),
        };
    }
    let is_name = service.starts_with(|c: char| c.is_ascii_alphanumeric())
        && service.bytes().all(|b| b.is_ascii_graphic());
    if is_name {
        Ok(())
    } else {
        Err(format!(
            "{service:?} is neither a port number nor the name of a service"
        ))
    }
}

impl ListenAddr {
    /// Resolves to every address that a listener binds, each once.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let Some(host) = self.host() else {
            // The IPv6 socket accepts IPv4 clients, too. The IPv4 address is for systems without IPv6.
            let port = self.look_up(None)?[0].port();
            return Ok(vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]);
        };
        self.look_up(Some(host))
    }

    /// Resolves to every address that a client may connect to, each once.
    pub(crate) fn resolve_peer(&self) -> io::Result<Vec<SocketAddr>> {
        self.look_up(self.host())
    }

    /// Returns the host, unless it is empty or `*`.
    fn host(&self) -> Option<&str> {
        Some(&*self.host).filter(|host| !matches!(*host, "" | "*"))
    }

    /// Resolves `host`, or the loopback if `host` is `None`.
    fn look_up(&self, host: Option<&str>) -> io::Result<Vec<SocketAddr>> {
        let hints = AddrInfoHints {
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        let mut addrs = Vec::new();
        let infos = getaddrinfo(host, Some(&self.service), Some(hints)).map_err(|error| {
            match error.kind() {
                // The system's own message is "Servname not supported for ai_socktype".
                LookupErrorKind::Service => io::Error::new(
                    io::ErrorKind::NotFound,
                    format!("no TCP service is named {:?}", self.service),
                ),
                _ => error.into(),
            }
        })?;
        for info in infos {
            let addr = info?.sockaddr;
            if !addrs.contains(&addr) {
                addrs.push(addr);
            }
        }
        if addrs.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "it resolves to no address",
            ));
        }
        Ok(addrs)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.service)
        } else {
            write!(f, "{}:{}", self.host, self.service)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_shown_as_they_were_written() {
        for text in [
            "127.0.0.1:7007",
            ":7",
            "*:7",
            "[fe80::1%lo]:7",
            "7.example:whois++",
            "[::1]:7007",
            "localhost:echo",
            "[::1]:echo",
        ] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_hint() {
        for (text, hint) in [
            ("", "HOST:PORT"),
            ("7007", "127.0.0.1:7007"),
            ("http://localhost/", "not a URL"),
            ("echo://localhost:7", "not a URL"),
            ("unix:/run/echod", "Unix sockets are not supported"),
            ("/run/echod", "Unix sockets are not supported"),
            ("@echod", "Unix sockets are not supported"),
            ("localhost", "HOST:PORT"),
            ("localhost:", "HOST:PORT"),
            ("[::1]", "HOST:PORT"),
            ("::1:7007", "brackets"),
            ("[127.0.0.1]:7007", "brackets"),
            ("127.0.0.1:65536", "65535"),
            ("127.0.0.1:99999999999999999999", "65535"),
            ("[::g]:7", "\"::g\" is not an IPv6 address"),
            ("1:7", "\"1\" is not an IPv4 address"),
            ("127.1:7", "\"127.1\" is not an IPv4 address"),
            ("010.0.0.1:7", "\"010.0.0.1\" is not an IPv4 address"),
            ("0x7f.0.0.1:7", "\"0x7f.0.0.1\" is not an IPv4 address"),
            ("0x7f000001:7", "\"0x7f000001\" is not an IPv4 address"),
            ("127.0.0.1.:7", "\"127.0.0.1.\" is not an IPv4 address"),
            ("127.0.0.1 x:7", "not a host name"),
            ("localhost:*", "\"*\" is neither a port number"),
            ("localhost:+7", "\"+7\" is neither"),
            ("localhost:-65529", "\"-65529\" is neither"),
            ("localhost: 7", "\" 7\" is neither"),
        ] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.contains(hint), "{text:?}: {error}");
        }
    }

    #[test]
    fn literals_resolve_to_themselves_and_no_host_to_all() {
        let resolve = |text: &str| text.parse::<ListenAddr>().unwrap().resolve().unwrap();
        assert_eq!(resolve("127.0.0.1:7"), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(resolve("[::1]:7"), ["[::1]:7".parse().unwrap()]);
        let all = ["[::]:7", "0.0.0.0:7"].map(|addr| addr.parse().unwrap());
        assert_eq!(resolve(":7"), all);
        assert_eq!(resolve("*:7"), all);
        assert_eq!(resolve(" :7 "), all);
    }

    #[test]
    fn to_a_client_no_host_is_the_loopback() {
        for text in [":7", "*:7"] {
            let resolved = text.parse::<ListenAddr>().unwrap().resolve_peer().unwrap();
            assert!(resolved.contains(&"127.0.0.1:7".parse().unwrap()));
            assert!(resolved.iter().all(|addr| addr.ip().is_loopback()));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_shown_as_it_was(text in ".{0,40}") {
            if let Ok(addr) = text.parse::<ListenAddr>() {
                prop_assert_eq!(addr.to_string(), text.trim());
            }
        }

        #[test]
        fn every_socket_address_is_taken_and_resolves_to_itself(
            ip in any::<std::net::IpAddr>(),
            port in any::<u16>(),
        ) {
            let addr = SocketAddr::new(ip, port);
            let listen: ListenAddr = addr.to_string().parse().unwrap();
            prop_assert_eq!(listen.resolve().unwrap(), [addr]);
        }
    }
}
