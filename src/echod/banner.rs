//! `--banner`: a line that the echo sends first, so that a client behind a load balancer sees which
//! instance answered.

use std::io::{self, Write};
use std::str::FromStr;

use socketserver::{Connection, Rest};

/// A line with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Banner(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `%h`: the name of this machine.
    Host,
    /// `%l`: the address that the client connected to.
    Local,
    /// `%p`: the address of the client.
    Peer,
}

impl FromStr for Banner {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(char::is_control) {
            return Err("expected one line without control characters".to_owned());
        }
        let mut parts = text.split('%');
        let mut pieces = vec![Piece::Text(parts.next().unwrap_or_default().to_owned())];
        while let Some(part) = parts.next() {
            let mut rest = part.chars();
            let piece = match rest.next() {
                Some('h') => Some(Piece::Host),
                Some('l') => Some(Piece::Local),
                Some('p') => Some(Piece::Peer),
                Some(_) => None,
                // `%%`: the text was split at both signs, so the text after them is the next part.
                None => parts.next().map(|next| Piece::Text(format!("%{next}"))),
            };
            pieces.push(piece.ok_or_else(|| {
                let unknown = part.chars().next().map_or_else(String::new, String::from);
                format!("%{unknown} is unknown: expected %h, %l, %p, or %% for a percent sign")
            })?);
            pieces.push(Piece::Text(rest.as_str().to_owned()));
        }
        Ok(Self(pieces))
    }
}

impl Banner {
    /// Sends the line, then lets the server echo the rest of the connection.
    pub(crate) fn greet(&self, conn: &mut Connection) -> io::Result<()> {
        let line = self.line(conn)?;
        conn.write_all(line.as_bytes())?;
        conn.continue_with(Rest::Echo, &[]);
        Ok(())
    }

    /// Returns the line for one connection. It ends with CR LF, as lines of Internet protocols do.
    fn line(&self, conn: &Connection) -> io::Result<String> {
        let mut line = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Host => {
                    let names = rustix::system::uname();
                    line.push_str(&names.nodename().to_string_lossy());
                }
                Piece::Local => line.push_str(&conn.local_addr()?.to_string()),
                Piece::Peer => line.push_str(&conn.peer_addr().to_string()),
            }
        }
        line.push_str("\r\n");
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Piece {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn placeholders_stand_anywhere() {
        let pieces = |banner: &str| {
            let Banner(pieces) = banner.parse().unwrap();
            let is_something = |piece: &Piece| *piece != text("");
            pieces.into_iter().filter(is_something).collect::<Vec<_>>()
        };
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("hello"), [text("hello")]);
        assert_eq!(pieces("%h%l"), [Piece::Host, Piece::Local]);
        let expected = [text("at "), Piece::Local, text(" for "), Piece::Peer];
        assert_eq!(pieces("at %l for %p"), expected);
        assert_eq!(pieces("100%%"), [text("100"), text("%")]);
        assert_eq!(pieces("%%h"), [text("%h")]);
        assert_eq!(pieces("%%%h"), [text("%"), Piece::Host]);
    }

    #[test]
    fn what_is_no_placeholder_is_named() {
        for (banner, unknown) in [
            ("%", "% is"),
            ("50 %", "% is"),
            ("%x", "%x is"),
            ("%%%", "% is"),
        ] {
            let error = banner.parse::<Banner>().unwrap_err();
            assert!(error.starts_with(unknown), "{banner:?}: {error}");
        }
        assert!("two\nlines".parse::<Banner>().is_err());
    }

    proptest! {
        #[test]
        fn a_text_with_its_percent_signs_doubled_is_itself(original in "[a-z%]{0,20}") {
            let Banner(pieces) = original.replace('%', "%%").parse().unwrap();
            let shown: String = pieces
                .into_iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text,
                    other => format!("{other:?}"),
                })
                .collect();
            prop_assert_eq!(shown, original);
        }
    }
}
