//! The part of HTTP/1.1 (RFC 9112) that a scrape needs: one request, bounded in size and in time, then one
//! response, then the end of the connection.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant, SystemTime};

use httparse::{EMPTY_HEADER, Error};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use socketserver::Connection;

/// Maximum size of the request line and the headers together, in bytes. Prometheus sends about 300.
const MAX_REQUEST: usize = 8 * 1024;

const MAX_HEADERS: usize = 64;

/// Time limit of a request, from the accept to its last byte, and another one of its response. The limit is
/// shorter than the interval of most scrapes.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A valid GET or HEAD request. A HEAD gets the response to a GET, without the body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    is_head: bool,
    /// Without the query.
    pub(crate) path: String,
    /// The values of all `Accept` headers.
    pub(crate) accept: String,
}

/// A status code with its reason.
pub(crate) type Status = &'static str;

pub(crate) const OK: Status = "200 OK";
pub(crate) const NOT_FOUND: Status = "404 Not Found";
const BAD_REQUEST: Status = "400 Bad Request";
const METHOD_NOT_ALLOWED: Status = "405 Method Not Allowed";
pub(crate) const UNAVAILABLE: Status = "503 Service Unavailable";
const TIMED_OUT: Status = "408 Request Timeout";
const TOO_LARGE: Status = "431 Request Header Fields Too Large";
const VERSION_NOT_SUPPORTED: Status = "505 HTTP Version Not Supported";

#[derive(Debug)]
pub(crate) struct Response {
    status: Status,
    content_type: &'static str,
    body: String,
}

impl Response {
    pub(crate) fn new(status: Status, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            content_type,
            body,
        }
    }

    /// Makes a response of one line of plain text.
    pub(crate) fn text(status: Status, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
    }

    fn bytes(&self, is_head: bool) -> Vec<u8> {
        let Self {
            status,
            content_type,
            body,
        } = self;
        let mut head = format!("HTTP/1.1 {status}\r\n");
        // Writing to a `String` never fails.
        if let Some(date) = date() {
            let _ = write!(head, "Date: {date}\r\n");
        }
        if *status == METHOD_NOT_ALLOWED {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        let _ = write!(
            head,
            "Content-Type: {content_type}\r\nContent-Length: {}\r\nVary: Accept\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(body.as_bytes());
        }
        bytes
    }
}

/// Returns the time as HTTP writes it, or `None` if the clock is beyond the year 9999.
fn date() -> Option<String> {
    let now = Timestamp::try_from(SystemTime::now()).ok()?;
    let printer = DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&now).ok()
}

/// Reads one request, and sends the response that `answer` makes, or an error status.
///
/// A client that closes without a request gets no response.
pub(crate) fn serve(
    mut conn: &Connection,
    answer: impl FnOnce(&Request) -> Response,
) -> io::Result<()> {
    conn.set_deadline(Instant::now() + TIMEOUT);
    let (response, is_head) = match read(conn)? {
        None => return Ok(()),
        Some(Ok(request)) => (answer(&request), request.is_head),
        Some(Err(status)) => (Response::text(status, status), false),
    };
    conn.set_deadline(Instant::now() + TIMEOUT);
    conn.write_all(&response.bytes(is_head))
}

/// Reads a request. Returns `None` at an immediate end of input, and the error status of a bad request.
///
/// Bytes after the request are left unread.
fn read(mut conn: &Connection) -> io::Result<Option<Result<Request, Status>>> {
    let mut buffer = vec![0; MAX_REQUEST];
    let mut filled = 0;
    while filled < buffer.len() {
        match conn.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Ok(Some(Err(BAD_REQUEST))),
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(Some(Err(TIMED_OUT))),
            Err(error) => return Err(error),
        }
        if let Some(request) = parse(&buffer[..filled]).transpose() {
            return Ok(Some(request));
        }
    }
    Ok(Some(Err(TOO_LARGE)))
}

/// Parses a request, or returns `None` while the request is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<Request>, Status> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|error| match error {
        Error::TooManyHeaders => TOO_LARGE,
        Error::Version => VERSION_NOT_SUPPORTED,
        _ => BAD_REQUEST,
    })?;
    if parsed.is_partial() {
        return Ok(None);
    }
    let values = |name: &str| -> Vec<_> {
        let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
        let headers = request.headers.iter().filter(named);
        headers
            .map(|header| String::from_utf8_lossy(header.value))
            .collect()
    };
    // HTTP/1.1 requires exactly one `Host` header, HTTP/1.0 none (RFC 9112, section 3.2).
    let expected_hosts = match request.version {
        Some(0) => 0..=1,
        _ => 1..=1,
    };
    if !expected_hosts.contains(&values("host").len()) {
        return Err(BAD_REQUEST);
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(METHOD_NOT_ALLOWED),
    };
    Ok(Some(Request {
        is_head,
        path: path(request.path.unwrap_or_default()).to_owned(),
        accept: values("accept").join(","),
    }))
}

/// Returns the path of a request target. The target may be a whole URL (RFC 9112, section 3.2.2).
fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => {
            rest.find('/').map_or("/", |start| &rest[start..])
        }
        _ => target,
    };
    target.split('?').next().unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn request(path: &str) -> Request {
        Request {
            is_head: false,
            path: path.to_owned(),
            accept: String::new(),
        }
    }

    #[test]
    fn a_target_is_a_path_or_a_whole_url_and_may_have_a_query() {
        for (target, expected) in [
            ("/", "/"),
            ("/metrics", "/metrics"),
            ("/metrics?collect=all", "/metrics"),
            ("http://localhost:9007/metrics?x=a://b", "/metrics"),
            ("http://localhost:9007", "/"),
            ("/metrics?next=http://localhost/other", "/metrics"),
            ("*", "*"),
        ] {
            assert_eq!(path(target), expected, "{target}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_request_has_its_status() {
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(64));
        for (bytes, status) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", BAD_REQUEST),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", BAD_REQUEST),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD_REQUEST),
            ("GET\r\n\r\n", BAD_REQUEST),
            ("\u{16}\u{3}\u{1}\u{0}", BAD_REQUEST),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_NOT_SUPPORTED),
            (
                "POST /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
                METHOD_NOT_ALLOWED,
            ),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD_NOT_ALLOWED),
            (&many, TOO_LARGE),
        ] {
            assert_eq!(parse(bytes.as_bytes()), Err(status), "{bytes:?}");
        }
    }

    #[test]
    fn all_accept_headers_are_one_and_http_1_0_needs_no_host() {
        let bytes = b"HEAD /metrics HTTP/1.0\r\nAccept: a/b\r\nACCEPT: c/d;q=0.5\r\n\r\n";
        let expected = Request {
            is_head: true,
            accept: "a/b,c/d;q=0.5".to_owned(),
            ..request("/metrics")
        };
        assert_eq!(parse(bytes), Ok(Some(expected)));
    }

    #[test]
    fn only_a_head_is_without_its_body() {
        let response = Response::text(OK, "hello");
        let text = |is_head| String::from_utf8(response.bytes(is_head)).unwrap();
        assert!(text(false).ends_with("\r\n\r\nhello\n"));
        assert!(text(true).ends_with("\r\n\r\n"));
        assert!(text(true).contains("\r\nContent-Length: 6\r\n"));
    }

    proptest! {
        /// A request is complete at its blank line, and not before. Bytes after it don't matter.
        #[test]
        fn a_request_is_whole_at_its_blank_line_and_not_before(tail in vec(any::<u8>(), 0..50)) {
            let bytes = b"GET /metrics?x HTTP/1.1\r\nHost: localhost\r\n\r\n";
            for end in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..end]), Ok(None));
            }
            let whole = [&bytes[..], &tail].concat();
            prop_assert_eq!(parse(&whole), Ok(Some(request("/metrics"))));
        }

        /// Any bytes are a request, the beginning of a request, or an error.
        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"GET ", &bytes[..], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        }
    }
}
