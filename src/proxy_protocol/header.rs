//! The header of the PROXY protocol: where it ends, and which addresses it has. Pure.
//!
//! The crate `ppp` reads a header that is whole. Before that, it is found out here how long the header
//! is, so that no byte of what follows is taken, and that nothing else than a header is waited for.

use std::fmt;
use std::net::SocketAddr;

use crc::{CRC_32_ISCSI, Crc};
use ppp::{v1, v2};

/// The addresses of a connection between a client and a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// The client's.
    pub(crate) source: SocketAddr,
    /// Where the client has connected to.
    pub(crate) destination: SocketAddr,
}

/// The most bytes that a header of version 1 has, with its line end: the specification's bound.
pub(crate) const MAX_V1: usize = 107;

/// The most bytes that a header of version 2 may have here. The specification advises senders to stay
/// below 536 bytes, so that one segment carries the header on any path. A certificate of a client, which
/// some proxies pass on, takes more.
pub(crate) const MAX_V2: usize = 4096;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = v2::PROTOCOL_PREFIX;
/// The signature, the command, the family, and two bytes with the length of the rest.
const FIXED_V2: usize = SIGNATURE_V2.len() + 4;
const COMMAND: usize = SIGNATURE_V2.len();
/// Version 2, and the command LOCAL: the proxy speaks for itself.
const LOCAL: u8 = 0x20;
/// How a type, and two bytes with the length of its value, precede each value.
const TLV_HEAD: usize = 3;
const TYPE_CRC32C: u8 = 0x03;
/// CRC-32C, of RFC 9260 and RFC 4960.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What is wrong with a header.
#[derive(Debug, PartialEq)]
pub(crate) enum Malformed {
    /// It begins with other bytes than a header does: these.
    OtherData(Vec<u8>),
    /// It has more bytes than this.
    TooLong(usize),
    /// The line of version 1 ends with CR or LF alone.
    LineEnd,
    V1(v1::BinaryParseError),
    V2(v2::ParseError),
    /// The checksum is another one than that of the header.
    Checksum,
}

/// How many bytes of other data are shown.
const SHOWN: usize = 16;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parser's messages are sentences.
        let cause: &dyn fmt::Display = match self {
            Self::OtherData(bytes) => return write!(f, "sent \"{}\"", bytes.escape_ascii()),
            Self::TooLong(most) => return write!(f, "sent one of more than {most} bytes"),
            Self::LineEnd => &"its line does not end with CR LF",
            Self::V1(error) => error,
            Self::V2(error) => error,
            Self::Checksum => &"its CRC-32C is wrong",
        };
        let cause = cause.to_string();
        write!(f, "sent a malformed one: {}", cause.trim_end_matches('.'))
    }
}

/// Returns how long the header is that `input` begins with, or `None` if that can't be told yet. A
/// header may be longer than `input`.
///
/// As long as that can't be told, all of `input` belongs to the header.
pub(crate) fn length(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let begins_with = |signature: &[u8]| {
        let both = input.len().min(signature.len());
        input[..both] == signature[..both]
    };
    if begins_with(SIGNATURE_V2) {
        length_v2(input)
    } else if begins_with(SIGNATURE_V1) {
        length_v1(input)
    } else {
        let shown = &input[..input.len().min(SHOWN)];
        Err(Malformed::OtherData(shown.to_vec()))
    }
}

/// Version 1 is a line of text.
fn length_v1(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let end = input.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
    let length = end.map_or(input.len() + 1, |end| end + 2);
    if length > MAX_V1 {
        return Err(Malformed::TooLong(MAX_V1));
    }
    match end.map(|end| &input[end..]) {
        None | Some(b"\r") => Ok(None),
        Some([b'\r', b'\n', ..]) => Ok(Some(length)),
        Some(_) => Err(Malformed::LineEnd),
    }
}

/// Version 2 is binary, and says how long it is.
fn length_v2(input: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(fixed) = input.first_chunk::<FIXED_V2>() else {
        return Ok(None);
    };
    let [.., high, low] = *fixed;
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_V2 {
        return Err(Malformed::TooLong(MAX_V2));
    }
    Ok(Some(length))
}

/// Reads a header that is whole. Returns `None` if the header leaves the addresses as they are.
pub(crate) fn parse(header: &[u8]) -> Result<Option<Endpoints>, Malformed> {
    if header.starts_with(SIGNATURE_V2) {
        parse_v2(header)
    } else {
        parse_v1(header)
    }
}

fn parse_v1(header: &[u8]) -> Result<Option<Endpoints>, Malformed> {
    // The specification has receivers ignore what follows. `ppp` refuses some of that.
    if let Some([b' ' | b'\r', ..]) = header.strip_prefix(b"PROXY UNKNOWN") {
        return Ok(None);
    }
    let header = v1::Header::try_from(header).map_err(Malformed::V1)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(v4) => Some(ipv4(v4)),
        v1::Addresses::Tcp6(v6) => Some(ipv6(v6)),
        v1::Addresses::Unknown => None,
    })
}

fn parse_v2(header: &[u8]) -> Result<Option<Endpoints>, Malformed> {
    // The specification has receivers ignore the rest, the family included.
    if header.get(COMMAND) == Some(&LOCAL) {
        return Ok(None);
    }
    let parsed = v2::Header::try_from(header).map_err(Malformed::V2)?;
    check_tlvs(&parsed)?;
    Ok(match (parsed.protocol, parsed.addresses) {
        (v2::Protocol::Stream, v2::Addresses::IPv4(v4)) => Some(ipv4(v4)),
        (v2::Protocol::Stream, v2::Addresses::IPv6(v6)) => Some(ipv6(v6)),
        // A client of no TCP: of UDP, of a Unix socket, or unknown. HAProxy does the same.
        _ => None,
    })
}

/// Checks that the additional values fill the rest of the header, and the checksum, if there is one.
fn check_tlvs(header: &v2::Header<'_>) -> Result<(), Malformed> {
    let bytes = header.as_bytes();
    let mut at = bytes.len() - header.tlv_bytes().len();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(Malformed::V2)?;
        let value = at + TLV_HEAD..at + TLV_HEAD + tlv.len();
        if tlv.kind == TYPE_CRC32C {
            let mut digest = CRC32C.digest();
            digest.update(&bytes[..value.start]);
            // The checksum is made with zeros in its own place.
            digest.update(&[0; 4]);
            digest.update(&bytes[value.end..]);
            if *tlv.value != digest.finalize().to_be_bytes() {
                return Err(Malformed::Checksum);
            }
        }
        at = value.end;
    }
    Ok(())
}

fn ipv4(v4: v1::IPv4) -> Endpoints {
    Endpoints {
        source: (v4.source_address, v4.source_port).into(),
        destination: (v4.destination_address, v4.destination_port).into(),
    }
}

fn ipv6(v6: v1::IPv6) -> Endpoints {
    Endpoints {
        source: (v6.source_address, v6.source_port).into(),
        destination: (v6.destination_address, v6.destination_port).into(),
    }
}

#[cfg(test)]
mod tests;
