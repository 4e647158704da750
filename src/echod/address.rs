//! An address to listen on, or to connect to: as it is written on the command line, and as the
//! system resolves it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};

/// `HOST:PORT`, `:PORT` or `[IPV6]:PORT`, where PORT may be the name of a service.
///
/// It is only taken apart here. What the names mean is the system's to say (`getaddrinfo(3)`:
/// `/etc/hosts`, `/etc/services`, DNS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddr {
    /// Empty for every address of this machine, or, to connect to, the loopback.
    host: String,
    service: String,
}

impl FromStr for ListenAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, service) = text
            .rsplit_once(':')
            .filter(|(_, service)| !service.is_empty() && !service.ends_with(']'))
            .ok_or("expected HOST:PORT, :PORT or [IPV6]:PORT")?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains([':', '[', ']']) {
            return Err("an IPv6 address needs brackets, as in [::1]:7007");
        }
        if bracketed.is_some_and(|host| !host.contains(':')) {
            return Err("brackets are for IPv6 addresses, as in [::1]:7007");
        }
        // getaddrinfo(3) would take a number modulo 65,536.
        if service.bytes().all(|b| b.is_ascii_digit()) && service.parse::<u16>().is_err() {
            return Err("a port is at most 65535");
        }
        Ok(Self {
            host: bracketed.unwrap_or(host).to_owned(),
            service: service.to_owned(),
        })
    }
}

impl ListenAddr {
    /// Resolves to every address that it means to a listener, each once.
    pub(crate) fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            // The IPv6 socket takes IPv4 clients, too. The other is for systems without IPv6.
            let port = self.look_up(None)?[0].port();
            return Ok(vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]);
        }
        self.look_up(Some(&self.host))
    }

    /// Resolves to every address that it means to a client, each once.
    pub(crate) fn resolve_peer(&self) -> io::Result<Vec<SocketAddr>> {
        self.look_up(Some(&*self.host).filter(|host| !host.is_empty()))
    }

    /// Looks `host` up, or, without one, the loopback.
    fn look_up(&self, host: Option<&str>) -> io::Result<Vec<SocketAddr>> {
        let hints = AddrInfoHints {
            socktype: SockType::Stream.into(),
            ..AddrInfoHints::default()
        };
        let mut addrs = Vec::new();
        let infos = getaddrinfo(host, Some(&self.service), Some(hints)).map_err(|error| {
            match error.kind() {
                // The system's own words are "Servname not supported for ai_socktype".
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
                "the name has no address",
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
            ("7007", "HOST:PORT"),
            ("localhost", "HOST:PORT"),
            ("localhost:", "HOST:PORT"),
            ("[::1]", "HOST:PORT"),
            ("::1:7007", "brackets"),
            ("[127.0.0.1]:7007", "brackets"),
            ("127.0.0.1:65536", "65535"),
            ("127.0.0.1:99999999999999999999", "65535"),
        ] {
            let error = text.parse::<ListenAddr>().unwrap_err();
            assert!(error.contains(hint), "{text:?}: {error}");
        }
    }

    #[test]
    fn literals_resolve_to_themselves_and_nothing_to_all() {
        let resolve = |text: &str| text.parse::<ListenAddr>().unwrap().resolve().unwrap();
        assert_eq!(resolve("127.0.0.1:7"), ["127.0.0.1:7".parse().unwrap()]);
        assert_eq!(resolve("[::1]:7"), ["[::1]:7".parse().unwrap()]);
        let all = ["[::]:7", "0.0.0.0:7"].map(|addr| addr.parse().unwrap());
        assert_eq!(resolve(":7"), all);
    }

    #[test]
    fn to_a_client_no_host_is_the_loopback() {
        let resolved = ":7".parse::<ListenAddr>().unwrap().resolve_peer().unwrap();
        assert!(resolved.contains(&"127.0.0.1:7".parse().unwrap()));
        assert!(resolved.iter().all(|addr| addr.ip().is_loopback()));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_shown_as_it_was(text in ".{0,40}") {
            if let Ok(addr) = text.parse::<ListenAddr>() {
                prop_assert_eq!(addr.to_string(), text);
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
