//! A Gopher server (RFC 1436): shows the files of a folder, and never writes to it.
//!
//! ```sh
//! cargo run --example gopher -- examples
//! curl gopher://127.0.0.1:7007               # in another terminal: the menu
//! curl gopher://127.0.0.1:7007/0/gopher.rs   # a text
//! ```
//!
//! A client sends one line, the selector, and gets a menu or a file. The end of the connection is the end
//! of the reply. The folder is the first argument, the address to listen on the second.

#[path = "support/serve.rs"]
mod serve;
mod support;

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socketserver::{Connection, RequestHandler, TcpServer};

/// The most bytes of a selector. RFC 1436 asks for 255, but the path of a file may be longer.
const LONGEST: u64 = 4096;
/// Time limit for the selector, however slowly its bytes arrive.
const LIMIT: Duration = Duration::from_secs(10);
/// The server closes a connection whose client has read nothing for this long.
const TIMEOUT: Duration = Duration::from_secs(60);

struct Gopher(Arc<Path>);

impl RequestHandler for Gopher {
    fn handle(&mut self, conn: &mut Connection) -> io::Result<()> {
        let (root, mut selector) = (&*self.0, Vec::new());
        conn.set_deadline(Instant::now() + LIMIT);
        BufReader::new(&*conn)
            .take(LONGEST)
            .read_until(b'\n', &mut selector)?;
        conn.set_deadline(None);
        if !selector.ends_with(b"\n") {
            return refuse(conn, "the selector does not end, or is too long");
        }
        // The selector ends at a tab or the end of the line. After a tab come the words of a search, which
        // this server doesn't offer.
        let selector = selector.split(|byte| b"\t\r\n".contains(byte)).next();
        let Some(path) = find(root, selector.unwrap_or_default()) else {
            return refuse(conn, "there is no such file here");
        };
        if path.is_dir() {
            return match menu(root, &path, conn) {
                Ok(menu) => conn.write_all(&menu),
                Err(_) => refuse(conn, "this folder can't be read"),
            };
        }
        match File::open(&path) {
            Ok(file) if kind(&path) == '0' => send_text(file, conn),
            Ok(mut file) => io::copy(&mut file, conn).map(drop),
            Err(_) => refuse(conn, "this file can't be read"),
        }
    }
}

/// Returns the file or the folder that a selector names, if it is inside `root`.
fn find(root: &Path, selector: &[u8]) -> Option<PathBuf> {
    // Strip leading slashes, because `join` would replace the root by an absolute path.
    let begin = selector.iter().position(|&byte| byte != b'/');
    let relative = OsStr::from_bytes(&selector[begin.unwrap_or(selector.len())..]);
    // The canonical path has no `..` and no link. So the check below also rejects links that lead out of
    // the folder. It can't see a link that is made between the check and the open.
    let path = root.join(relative).canonicalize().ok()?;
    // Opening anything else, such as a named pipe, might block for ever.
    (path.starts_with(root) && (path.is_dir() || path.is_file())).then_some(path)
}

/// Lists a folder: a line for each file, with its type, name, selector, host and port.
fn menu(root: &Path, folder: &Path, conn: &Connection) -> io::Result<Vec<u8>> {
    let mut names: Vec<_> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<_>>()?;
    names.sort_unstable();
    let (addr, mut menu) = (conn.local_addr()?, Vec::new());
    for name in names {
        let path = folder.join(&name);
        let selector = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .as_os_str()
            .as_bytes();
        // A line break in a name would break the menu. Files that the server would refuse are left out,
        // too.
        let Some(file) =
            find(root, selector).filter(|_| !selector.iter().any(u8::is_ascii_control))
        else {
            continue;
        };
        write!(menu, "{}", kind(&file))?;
        menu.extend([name.as_bytes(), b"\t/", selector].concat());
        write!(menu, "\t{}\t{}\r\n", addr.ip(), addr.port())?;
    }
    menu.extend(b".\r\n");
    Ok(menu)
}

/// Returns the type of a file in menus (RFC 1436, 3.8), by its extension.
fn kind(path: &Path) -> char {
    match path.extension().and_then(OsStr::to_str) {
        _ if path.is_dir() => '1',
        Some("txt" | "md" | "rs" | "toml") => '0',
        Some("gif") => 'g',
        Some("jpg" | "jpeg" | "png") => 'I',
        _ => '9',
    }
}

/// Sends a text, and then a dot on a line of its own, which ends the text.
///
/// A line that begins with a dot gets another dot, so that no line of the text looks like its end.
fn send_text(file: File, conn: &Connection) -> io::Result<()> {
    let (mut text, mut out) = (BufReader::new(file), BufWriter::new(conn));
    let (mut part, mut last) = (Vec::new(), b'\n');
    // A line may be as long as the file, so it is read in parts.
    while (&mut text).take(LONGEST).read_until(b'\n', &mut part)? > 0 {
        if last == b'\n' && part.starts_with(b".") {
            out.write_all(b".")?;
        }
        for byte in part.drain(..) {
            if byte == b'\n' && last != b'\r' {
                out.write_all(b"\r")?;
            }
            out.write_all(&[byte])?;
            last = byte;
        }
    }
    let end: &[u8] = if last == b'\n' {
        b".\r\n"
    } else {
        b"\r\n.\r\n"
    };
    out.write_all(end)?;
    out.flush()
}

/// Answers with a menu of one line, whose type `3` means an error.
fn refuse(mut conn: &Connection, text: &str) -> io::Result<()> {
    write!(conn, "3{text}\t\terror.host\t1\r\n.\r\n")
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = support::argument(1, ".");
    let root = Path::new(&folder).canonicalize();
    let root = root.map_err(|error| format!("cannot serve {folder}: {error}"))?;
    if !root.is_dir() {
        return Err(format!("cannot serve {folder}: it is not a folder").into());
    }
    let root = Arc::from(root);
    let addr = support::argument(2, "127.0.0.1:7007");
    let builder = TcpServer::builder().write_timeout(TIMEOUT);
    serve::serve(builder, &addr, move || Gopher(Arc::clone(&root)))
}
