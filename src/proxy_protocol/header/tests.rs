//! Tests what counts as a header, and where it ends. The headers are written out, or made by `ppp`.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 7\r\n";

/// Reads the header that `input` begins with. Returns its length and its addresses.
fn read(input: &[u8]) -> Result<(usize, Option<Endpoints>), Malformed> {
    match length(input)? {
        Some(length) if length <= input.len() => Ok((length, parse(&input[..length])?)),
        length => panic!("{length:?} of {}", input.escape_ascii()),
    }
}

fn endpoints(source: &str, destination: &str) -> Endpoints {
    Endpoints {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

/// Makes a header of version 2.
fn v2_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

/// The addresses of [`LINE`].
const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0, 7];

fn proxied(rest: &[u8]) -> Vec<u8> {
    v2_header(0x21, 0x11, &[&ADDRESSES, rest].concat())
}

#[test]
fn a_line_has_the_addresses() {
    for (line, expected) in [
        (LINE, endpoints("192.0.2.7:4711", "198.51.100.1:7")),
        (
            b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n",
            endpoints("[2001:db8::7]:65535", "[::1]:0"),
        ),
        // The longest line with addresses: 104 bytes. In the specification only an UNKNOWN line has 107.
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
              ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            endpoints(
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
            ),
        ),
    ] {
        assert_eq!(read(line), Ok((line.len(), Some(expected))));
    }
}

#[test]
fn an_unknown_client_leaves_the_addresses_whatever_follows() {
    for rest in [
        "",
        " ",
        " a b c d e f g h i",
        " ffff:f...f:ffff ffff:f...f:ffff 65535 65535",
        &format!(" {}", "x".repeat(MAX_V1 - "PROXY UNKNOWN \r\n".len())),
    ] {
        let line = format!("PROXY UNKNOWN{rest}\r\n");
        assert_eq!(read(line.as_bytes()), Ok((line.len(), None)));
    }
    assert_eq!(read(b"PROXY UNKNOWN \xff\0\r\n"), Ok((18, None)));
}

#[test]
fn a_wrong_line_is_malformed() {
    for line in [
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY UDP4 192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY TCP4\t192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7 9\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 65536 7\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 7\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 04711 7\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 4711 7\r\n",
        "PROXY TCP4 192.0.2 198.51.100.1 4711 7\r\n",
        "PROXY TCP4 ::1 ::1 4711 7\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 4711 7\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.1 4711 7\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 7\r\r\n",
        "PROXY TCP4 192.0.2.7\r198.51.100.1 4711 7\r\n",
    ] {
        let error = read(line.as_bytes()).unwrap_err();
        let is_other = matches!(error, Malformed::OtherData(_));
        assert_eq!(is_other, line == "PROXY\r\n", "{line:?}: {error}");
    }
}

#[test]
fn other_data_is_no_header_from_its_first_wrong_byte_on() {
    for data in [
        &b"hello"[..],
        b"proxy ",
        b"PROXX",
        b"PROXY\t",
        b"\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\r",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01",
    ] {
        let Err(Malformed::OtherData(shown)) = length(data) else {
            panic!("{}", data.escape_ascii());
        };
        assert_eq!(shown, data[..data.len().min(SHOWN)]);
    }
    let shown = length(b"\x1b[31mGET\r\n").unwrap_err().to_string();
    assert_eq!(shown, r#"sent "\x1b[31mGET\r\n""#);
}

#[test]
fn a_line_without_an_end_is_too_long_at_108_bytes() {
    let line = |n: usize| [b"PROXY UNKNOWN ", &*vec![b'x'; n - 14]].concat();
    assert_eq!(length(&line(106)), Ok(None));
    assert_eq!(length(&line(107)), Err(Malformed::TooLong(107)));
    let ended = |n: usize| [&*line(n - 2), b"\r\n"].concat();
    assert_eq!(length(&ended(107)), Ok(Some(107)));
    assert_eq!(length(&ended(108)), Err(Malformed::TooLong(107)));
    assert_eq!(
        length(&[&*line(106), b"\r"].concat()),
        Err(Malformed::TooLong(107))
    );
}

#[test]
fn version_2_has_the_addresses_of_its_family() {
    let v4 = Some(endpoints("192.0.2.7:4711", "198.51.100.1:7"));
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[31] = 2;
    v6[33] = 9;
    v6[35] = 7;
    let unix = [b'/'; 216];
    for (command, family, rest, expected) in [
        (0x21, 0x11, &ADDRESSES[..], v4),
        (0x21, 0x21, &v6, Some(endpoints("[::1]:9", "[::2]:7"))),
        // The client does not use TCP.
        (0x21, 0x00, &[], None),
        (0x21, 0x00, b"anything", None),
        (0x21, 0x12, &ADDRESSES, None),
        (0x21, 0x22, &v6, None),
        (0x21, 0x31, &unix, None),
        (0x21, 0x32, &unix, None),
        // The connection is the proxy's own (LOCAL), so the rest does not count.
        (0x20, 0x00, &[], None),
        (0x20, 0x11, &ADDRESSES, None),
        (0x20, 0x11, &[], None),
        (0x20, 0xff, b"anything", None),
    ] {
        let header = v2_header(command, family, rest);
        let shown = (command, family);
        assert_eq!(read(&header), Ok((header.len(), expected)), "{shown:x?}");
    }
}

#[test]
fn a_wrong_header_of_version_2_is_malformed() {
    for (command, family, rest) in [
        // Other versions and commands.
        (0x11, 0x11, &ADDRESSES[..]),
        (0x31, 0x11, &ADDRESSES),
        (0x22, 0x11, &ADDRESSES),
        (0x00, 0x11, &ADDRESSES),
        // Other families and protocols.
        (0x21, 0x41, &ADDRESSES),
        (0x21, 0xf1, &ADDRESSES),
        (0x21, 0x13, &ADDRESSES),
        // Too short for the family.
        (0x21, 0x11, &ADDRESSES[..11]),
        (0x21, 0x11, &[]),
        (0x21, 0x21, &ADDRESSES),
        (0x21, 0x31, &ADDRESSES),
        // Values that don't fill the rest.
        (0x21, 0x11, &[&ADDRESSES[..], &[4]].concat()),
        (0x21, 0x11, &[&ADDRESSES[..], &[4, 0]].concat()),
        (0x21, 0x11, &[&ADDRESSES[..], &[4, 0, 1]].concat()),
        (0x21, 0x11, &[&ADDRESSES[..], &[4, 0, 1, 0, 0]].concat()),
        (
            0x21,
            0x11,
            &[&ADDRESSES[..], &[3, 0, 4, 0, 0, 0, 0]].concat(),
        ),
        (0x21, 0x11, &[&ADDRESSES[..], &[3, 0, 0]].concat()),
    ] {
        let header = v2_header(command, family, rest);
        let error = read(&header).unwrap_err().to_string();
        assert!(error.starts_with("sent a malformed one: "), "{error}");
    }
}

#[test]
fn version_2_is_bounded() {
    let padding = |n| {
        [
            &[4][..],
            &u16::try_from(n).unwrap().to_be_bytes(),
            &vec![0; n],
        ]
        .concat()
    };
    let longest = proxied(&padding(MAX_V2 - 16 - 12 - 3));
    assert_eq!(longest.len(), MAX_V2);
    assert!(matches!(read(&longest), Ok((MAX_V2, Some(_)))));
    let longer = proxied(&padding(MAX_V2 - 16 - 12 - 3 + 1));
    assert_eq!(length(&longer), Err(Malformed::TooLong(MAX_V2)));
    // The first 16 bytes are enough to tell.
    assert_eq!(length(&longer[..16]), Err(Malformed::TooLong(MAX_V2)));
}

/// Makes a header with a checksum between other values.
fn with_checksum(checksum: [u8; 4]) -> Vec<u8> {
    proxied(&[&[4, 0, 1, 9, 3, 0, 4][..], &checksum, &[2, 0, 1, b'a']].concat())
}

#[test]
fn a_checksum_must_be_right() {
    let right = CRC32C.checksum(&with_checksum([0; 4])).to_be_bytes();
    assert!(matches!(read(&with_checksum(right)), Ok((_, Some(_)))));
    for bit in 0..32 {
        let wrong = (u32::from_be_bytes(right) ^ (1 << bit)).to_be_bytes();
        assert_eq!(read(&with_checksum(wrong)), Err(Malformed::Checksum));
    }
    // The check value that is published with the algorithm.
    assert_eq!(CRC32C.checksum(b"123456789"), 0xe306_9283);
}

/// Makes a valid header of either version, with its addresses.
fn header() -> impl Strategy<Value = (Vec<u8>, Option<Endpoints>)> {
    let addr = || any::<(IpAddr, u16)>().prop_map(SocketAddr::from);
    (addr(), addr(), any::<bool>(), vec(any::<u8>(), 0..300)).prop_map(
        |(source, destination, is_text, noise)| {
            let known = source.is_ipv4() == destination.is_ipv4();
            let expected = known.then_some(Endpoints {
                source,
                destination,
            });
            let header = if is_text {
                let addresses = match (source, destination) {
                    (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
                    (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
                    _ => return (b"PROXY UNKNOWN\r\n".to_vec(), None),
                };
                let ports = (source.port(), destination.port());
                let (source, destination) = (source.ip(), destination.ip());
                let (from, to) = ports;
                format!("PROXY {addresses} {source} {destination} {from} {to}\r\n").into_bytes()
            } else {
                let command = v2::Version::Two | v2::Command::Proxy;
                let addresses = (source, destination);
                let builder = v2::Builder::with_addresses(command, v2::Protocol::Stream, addresses);
                // A header without addresses has no room for values.
                let builder = if known {
                    builder.write_tlv(v2::Type::NoOp, &noise).unwrap()
                } else {
                    builder
                };
                builder.build().unwrap()
            };
            (header, expected)
        },
    )
}

/// Beginnings with which random input reaches the different branches of the parsers.
const BEGINNINGS: [&[u8]; 7] = [
    b"",
    b"PROXY ",
    b"PROXY TCP4 ",
    b"PROXY TCP6 ::1 ",
    SIGNATURE_V2,
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0",
];

proptest! {
    /// No input makes `length` or `parse` panic.
    #[test]
    fn any_bytes_are_a_header_or_none(
        begin in select(&BEGINNINGS),
        rest in vec(any::<u8>(), 0..300),
        text in "[0-9a-f:. \r\n]{0,110}",
        is_text in any::<bool>(),
    ) {
        let rest = if is_text { text.as_bytes() } else { &rest };
        let input = [begin, rest].concat();
        if let Ok(Some(length)) = length(&input) {
            prop_assert!(length <= MAX_V2);
            if length <= input.len() {
                let _ = parse(&input[..length]);
            }
        }
    }

    /// Every part of a header counts as its beginning, and whatever follows does not move its end.
    #[test]
    fn a_header_ends_where_it_ends(
        (header, expected) in header(),
        follows in vec(any::<u8>(), 0..50),
        cut in any::<Index>(),
    ) {
        let cut = cut.index(header.len());
        match length(&header[..cut]) {
            Ok(None) => {}
            other => prop_assert_eq!(other, Ok(Some(header.len()))),
        }
        let input = [&*header, &*follows].concat();
        prop_assert_eq!(read(&input), Ok((header.len(), expected)));
    }

    /// A header with one changed byte is read or rejected, and never beyond the bound.
    #[test]
    fn a_changed_header_is_bounded((mut header, _) in header(), at in any::<Index>(), to in any::<u8>()) {
        let at = at.index(header.len());
        header[at] = to;
        if let Ok(Some(length)) = length(&header) {
            prop_assert!(length <= MAX_V2);
            if length <= header.len() {
                let _ = parse(&header[..length]);
            }
        }
    }
}
