//! An IP network, as people write it.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// An IP network: an address and the number of its bits that count, the prefix (CIDR, RFC 4632).
///
/// [`parse`](str::parse) reads a network such as `10.0.0.0/8` or `2001:db8::/32`, or one address such as
/// `192.0.2.7`. Bits beyond the prefix must be zero: `10.1.2.3/8` is an error, because it is not clear
/// whether the address or the network is meant. Needs the feature `proxy-protocol`.
///
/// # Examples
///
/// ```
/// # fn main() -> Result<(), socketserver::NetworkError> {
/// use socketserver::Network;
///
/// let network: Network = "10.0.0.0/8".parse()?;
/// assert!(network.contains([10, 1, 2, 3].into()));
/// assert!(!network.contains([192, 0, 2, 7].into()));
///
/// let error = "10.1.2.3/8".parse::<Network>().unwrap_err();
/// assert_eq!(error.to_string(), "10.1.2.3 is an address in the network 10.0.0.0/8; write one of them");
/// # Ok(())
/// # }
/// ```
#[doc(alias = "CIDR")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

impl Network {
    /// Returns whether the network contains this address.
    ///
    /// An IPv4 address that is mapped into IPv6 (`::ffff:192.0.2.7`) counts as the IPv4 address. So `::/0`
    /// contains no IPv4 address, not even a mapped one, and `0.0.0.0/0` contains all of them.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr.to_canonical())
    }
}

/// Makes the network that contains this address alone.
impl From<IpAddr> for Network {
    fn from(addr: IpAddr) -> Self {
        Self(addr.to_canonical().into())
    }
}

/// Reads a network or an address. A network of mapped addresses (`::ffff:10.0.0.0/104`) is the network of
/// IPv4 addresses.
///
/// # Errors
///
/// The text is neither a network nor an address, or bits beyond the prefix are not zero.
impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return Ok(addr.into());
        }
        let network: IpNet = text.parse().map_err(|_| NetworkError(Kind::Syntax))?;
        if network != network.trunc() {
            return Err(NetworkError(Kind::HostBits(network)));
        }
        Ok(Self(unmapped(network)))
    }
}

/// The prefix of `::ffff:0:0/96`, the network of all mapped addresses.
const MAPPED_PREFIX: u8 = 96;

/// Returns the network of IPv4 addresses for a network of mapped addresses, and any other network as it is.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = || {
        let prefix = v6.prefix_len().checked_sub(MAPPED_PREFIX)?;
        Ipv4Net::new(v6.addr().to_ipv4_mapped()?, prefix).ok()
    };
    mapped().map_or(network, IpNet::V4)
}

/// Writes the network with its prefix, also for one address: `192.0.2.7/32`.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error of a text that is not a [`Network`].
///
/// The message says what is wrong and what to write instead, but does not quote the text.
///
/// # Examples
///
/// ```
/// use socketserver::{Network, NetworkError};
///
/// let error: NetworkError = "10.1.2.3/8".parse::<Network>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "10.1.2.3 is an address in the network 10.0.0.0/8; write one of them",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Syntax,
    /// Bits beyond the prefix are not zero.
    HostBits(IpNet),
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Syntax => {
                f.write_str("expected a network such as 10.0.0.0/8 or 2001:db8::/32, or an address")
            }
            Kind::HostBits(network) => {
                let (addr, whole) = (network.addr(), network.trunc());
                write!(
                    f,
                    "{addr} is an address in the network {whole}; write one of them"
                )
            }
        }
    }
}

impl Error for NetworkError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_and_addresses_are_read_as_people_write_them() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ] {
            assert_eq!(network(text).to_string(), shown, "{text:?}");
        }
        for wrong in [
            "",
            "/",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "::1/129",
            "10.0.0.0/8 ",
            "localhost",
            "fe80::1%eth0",
            "10.0.0.0/255.0.0.0",
        ] {
            let error = wrong.parse::<Network>().unwrap_err();
            assert!(error.to_string().contains("such as"), "{wrong:?}");
        }
    }

    #[test]
    fn host_bits_are_an_error_that_names_the_network() {
        for (text, expected) in [
            (
                "10.1.2.3/8",
                "10.1.2.3 is an address in the network 10.0.0.0/8; write one of them",
            ),
            (
                "2001:db8::1/64",
                "2001:db8::1 is an address in the network 2001:db8::/64; write one of them",
            ),
        ] {
            let error = text.parse::<Network>().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_mapped_address_is_in_networks_of_ipv4_and_in_no_others() {
        assert!(network("10.0.0.0/8").contains(addr("::ffff:10.1.2.3")));
        assert!(network("::ffff:10.0.0.0/104").contains(addr("10.1.2.3")));
        assert!(!network("::/0").contains(addr("::ffff:10.1.2.3")));
        assert!(!network("0.0.0.0/0").contains(addr("::1")));
    }

    proptest! {
        #[test]
        fn any_text_is_a_network_or_an_error(text in "[0-9a-f:./%]{0,30}") {
            let _ = text.parse::<Network>();
        }

        /// A network contains the addresses that begin with its prefix, and no others.
        #[test]
        fn what_counts_is_the_prefix(bits in any::<u32>(), other in any::<u32>(), prefix in 0..=32_u8) {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let text = format!("{}/{prefix}", std::net::Ipv4Addr::from(bits & mask));
            let contains = network(&text).contains(std::net::Ipv4Addr::from(other).into());
            prop_assert_eq!(contains, other & mask == bits & mask);
        }
    }
}
