//! The header of the PROXY protocol: its end, and its addresses. Pure.
//!
//! The crate `ppp` parses a whole header. Before that, [`length`] finds the end of the header, so that the
//! server receives no byte beyond it. [`length`] also recognises other data by the first wrong byte, so that
//! the server does not wait for the rest of a header that will not come.

use std::fmt;
use std::net::SocketAddr;

use crc::{CRC_32_ISCSI, Crc};
use ppp::{v1, v2};

/// The addresses of a connection between a client and a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// The address of the client.
    pub(crate) source: SocketAddr,
    /// The address that the client connected to.
    pub(crate) destination: SocketAddr,
}

/// The most bytes of a header of version 1, with its line end, by the specification.
pub(crate) const MAX_V1: usize = 107;

/// The most bytes of a header of version 2 that this server accepts.
///
/// The specification allows 65,551 bytes, and asks proxies to stay within 536, so that one segment carries
/// a header on any path. Some proxies also pass on the client's certificate, which takes more than 536.
pub(crate) const MAX_V2: usize = 4096;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = v2::PROTOCOL_PREFIX;
/// The bytes of the fixed part: the signature, the command, the family, and two for the length of the rest.
const FIXED_V2: usize = SIGNATURE_V2.len() + 4;
/// The position of the byte with the version and the command.
const COMMAND: usize = SIGNATURE_V2.len();
/// Version 2 and the command LOCAL: the proxy has made the connection for itself, not for a client.
const LOCAL: u8 = 0x20;
/// The bytes before the value of a TLV: its type, and two for the length of the value.
const TLV_HEAD: usize = 3;
const TYPE_CRC32C: u8 = 0x03;
/// CRC-32C (RFC 9260, appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// The reason why input is not a valid header.
#[derive(Debug, PartialEq)]
pub(crate) enum Malformed {
    /// The connection begins with these bytes, and no header begins so.
    OtherData(Vec<u8>),
    /// The header has more bytes than this.
    TooLong(usize),
    /// The line of version 1 ends with CR or LF alone.
    LineEnd,
    V1(v1::BinaryParseError),
    V2(v2::ParseError),
    /// The checksum in the header is wrong.
    Checksum,
}

/// The most bytes of other data that an error quotes.
const SHOWN: usize = 16;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause: &dyn fmt::Display = match self {
            Self::OtherData(bytes) => return write!(f, "sent \"{}\"", bytes.escape_ascii()),
            Self::TooLong(most) => return write!(f, "sent one of more than {most} bytes"),
            Self::LineEnd => &"its line does not end with CR LF",
            Self::V1(error) => error,
            Self::V2(error) => error,
            Self::Checksum => &"its CRC-32C is wrong",
        };
        // The messages of `ppp` are sentences, but this one goes on.
        let cause = cause.to_string();
        write!(f, "sent a malformed one: {}", cause.trim_end_matches('.'))
    }
}

/// Returns the length of the header that `input` begins with. This may be more than the length of `input`.
/// Returns `None` if `input` is too short to tell; all of `input` then belongs to the header.
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

/// Returns the length of a header of version 1, which is a line of text.
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

/// Returns the length of a header of version 2, which says its length in its first 16 bytes.
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

/// Parses a whole header. Returns `None` if the header has no addresses for the server to use, so that
/// the addresses of the socket count.
pub(crate) fn parse(header: &[u8]) -> Result<Option<Endpoints>, Malformed> {
    if header.starts_with(SIGNATURE_V2) {
        parse_v2(header)
    } else {
        parse_v1(header)
    }
}

fn parse_v1(header: &[u8]) -> Result<Option<Endpoints>, Malformed> {
    // Receivers must ignore whatever follows UNKNOWN, but `ppp` rejects some of it.
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
    // Receivers must ignore whatever follows LOCAL, including the family, but `ppp` rejects some of it.
    if header.get(COMMAND) == Some(&LOCAL) {
        return Ok(None);
    }
    let parsed = v2::Header::try_from(header).map_err(Malformed::V2)?;
    check_tlvs(&parsed)?;
    Ok(match (parsed.protocol, parsed.addresses) {
        (v2::Protocol::Stream, v2::Addresses::IPv4(v4)) => Some(ipv4(v4)),
        (v2::Protocol::Stream, v2::Addresses::IPv6(v6)) => Some(ipv6(v6)),
        // The client uses UDP, a Unix socket or an unknown protocol. HAProxy also uses the addresses of the
        // socket then.
        _ => None,
    })
}

/// Checks that the additional values (TLVs) fill the rest of the header, and checks the checksum, if there
/// is one.
fn check_tlvs(header: &v2::Header<'_>) -> Result<(), Malformed> {
    let bytes = header.as_bytes();
    let mut at = bytes.len() - header.tlv_bytes().len();
    for tlv in header.tlvs() {
        let tlv = tlv.map_err(Malformed::V2)?;
        let value = at + TLV_HEAD..at + TLV_HEAD + tlv.len();
        if tlv.kind == TYPE_CRC32C {
            let mut digest = CRC32C.digest();
            digest.update(&bytes[..value.start]);
            // The proxy computes the checksum with zeros in the place of the checksum.
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
