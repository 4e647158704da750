//! The example `gopher`, with curl and by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use crate::support::{
    Session, available, connect, drip, eventually, example, exchange, noise, read_to_end, serving,
};

/// A running server of a folder. It ends when the test ends.
struct Gopher {
    server: Session,
    addr: SocketAddr,
    folder: PathBuf,
}

impl Gopher {
    /// Serves the folder `here` of a new folder. Beside `here` is a file that no client may get.
    fn start(name: &str) -> Self {
        let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("gopher-{name}"));
        let _ = fs::remove_dir_all(&place);
        let folder = place.join("here");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(place.join("secret.txt"), "secret").unwrap();
        fs::create_dir(place.join("here and there")).unwrap();
        fs::write(place.join("here and there/secret.txt"), "secret").unwrap();
        let (server, addr) = serving("gopher", &[folder.to_str().unwrap(), "127.0.0.1:0"]);
        Self {
            server,
            addr,
            folder,
        }
    }

    fn has(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.join(name), content).unwrap();
    }

    fn curl(&self, path: &str) -> Vec<u8> {
        let url = format!("gopher://{}{path}", self.addr);
        let mut command = Command::new("curl");
        command.args(["-sS", "--path-as-is", "--max-time", "30"]);
        let Output {
            status,
            stdout,
            stderr,
        } = command.arg(url).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        stdout
    }

    fn get(&self, selector: impl AsRef<[u8]>) -> String {
        let reply = exchange(self.addr, &[selector.as_ref(), b"\r\n"].concat());
        String::from_utf8(reply).unwrap()
    }

    /// Stops the server. No handler may have failed or panicked.
    fn stops(self) {
        self.server.signal(Signal::TERM);
        let ended = self.server.ends();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for bad in ["WARN", "ERROR", "reason=panic", "reason=error"] {
            assert!(!ended.stderr.contains(bad), "{}", ended.stderr);
        }
    }
}

/// The reply for a file that does not exist.
const NONE: &str = "3there is no such file here\t\terror.host\t1\r\n.\r\n";

#[test]
fn curl_gets_the_menus_the_texts_and_the_files() {
    if !available(&["curl"]) {
        return;
    }
    let gopher = Gopher::start("curl");
    let bytes = noise(7, 3 << 20);
    gopher.has("sub/noise.bin", &bytes);
    gopher.has("a text.txt", "first\n.second\n..third\n");
    gopher.has("picture.gif", ".\r\n");
    gopher.has("sub/.md", "no type\n");
    symlink("sub/noise.bin", gopher.folder.join("link.txt")).unwrap();
    let port = gopher.addr.port();
    let menu = format!(
        "0a text.txt\t/a text.txt\t127.0.0.1\t{port}\r\n\
         9link.txt\t/link.txt\t127.0.0.1\t{port}\r\n\
         gpicture.gif\t/picture.gif\t127.0.0.1\t{port}\r\n\
         1sub\t/sub\t127.0.0.1\t{port}\r\n.\r\n"
    );
    for root in ["", "/", "/1", "/1/"] {
        assert_eq!(
            String::from_utf8(gopher.curl(root)).unwrap(),
            menu,
            "{root}"
        );
    }
    let sub = format!(
        "9.md\t/sub/.md\t127.0.0.1\t{port}\r\n\
         9noise.bin\t/sub/noise.bin\t127.0.0.1\t{port}\r\n.\r\n"
    );
    for path in ["/1/sub", "/1sub", "/1/sub/", "/1/sub/../sub"] {
        assert_eq!(String::from_utf8(gopher.curl(path)).unwrap(), sub, "{path}");
    }
    let text = b"first\r\n..second\r\n...third\r\n.\r\n";
    assert_eq!(gopher.curl("/0/a%20text.txt"), text);
    assert_eq!(gopher.curl("/g/picture.gif"), b".\r\n");
    assert!(gopher.curl("/9/sub/noise.bin") == bytes);
    assert!(gopher.curl("/9/link.txt") == bytes);
    assert_eq!(gopher.curl("/0/none.txt"), NONE.as_bytes());
    gopher.stops();
}

#[test]
fn nothing_outside_of_the_folder_is_shown_whatever_the_selector() {
    let gopher = Gopher::start("escape");
    gopher.has("plain.txt", "plain");
    let link = |to: &str, from: &str| symlink(to, gopher.folder.join(from)).unwrap();
    link("../secret.txt", "out.txt");
    link("../secret.txt", "sub/loop.txt");
    link("/etc", "etc");
    link("..", "up");
    link("itself", "itself");
    link("nowhere", "dangling");
    let secret = gopher.folder.with_file_name("secret.txt");
    let secret = secret.to_str().unwrap();
    mkfifoat(CWD, gopher.folder.join("pipe.txt"), Mode::RUSR | Mode::WUSR).unwrap();
    for selector in [
        "..",
        "/..",
        "../",
        "../secret.txt",
        "/../secret.txt",
        "//../secret.txt",
        "sub/../../secret.txt",
        "/sub/../../secret.txt",
        "../here and there/secret.txt",
        " and there/secret.txt",
        "plain.txt/../../secret.txt",
        "none/../../secret.txt",
        secret,
        &format!("/{secret}"),
        "/etc/passwd",
        "//etc/passwd",
        "etc/passwd",
        "etc",
        "up",
        "up/secret.txt",
        "out.txt",
        "sub/loop.txt",
        "itself",
        "dangling",
        "/dev/null",
        "pipe.txt",
        "plain.txt/",
        "plain.txt\0",
        "\0",
        "~",
        "%2e%2e/secret.txt",
        "..\\secret.txt",
        &"../".repeat(100),
        &"x".repeat(300),
    ] {
        assert_eq!(gopher.get(selector), NONE, "{selector:?}");
    }
    // The menu lists none of these names. Selectors that lead to the folder itself are not refused.
    let port = gopher.addr.port();
    let menu = format!(
        "0plain.txt\t/plain.txt\t127.0.0.1\t{port}\r\n1sub\t/sub\t127.0.0.1\t{port}\r\n.\r\n"
    );
    for root in ["", "/", ".", "sub/..", "../here", "\tsearch"] {
        assert_eq!(gopher.get(root), menu, "{root:?}");
    }
    assert_eq!(gopher.get("plain.txt\tsearch"), "plain\r\n.\r\n");
    gopher.stops();
}

#[test]
fn a_selector_without_end_is_refused_and_other_bad_input_too() {
    let gopher = Gopher::start("bad");
    let refused = "3the selector does not end, or is too long\t\terror.host\t1\r\n.\r\n";
    let mut client = connect(gopher.addr);
    client.write_all(&[b'x'; 4096]).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), refused.as_bytes());
    for bytes in [&b""[..], b"plain.txt"] {
        assert_eq!(exchange(gopher.addr, bytes), refused.as_bytes());
    }
    assert_eq!(gopher.get(b"\xff\xfe\r"), NONE);
    // What the client sends after the selector is ignored.
    let menu = exchange(gopher.addr, b"/sub\r\n/sub\r\n");
    assert_eq!(menu, b".\r\n");
    gopher.stops();
}

#[test]
fn names_that_would_break_a_menu_are_left_out_and_other_bytes_are_not() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let gopher = Gopher::start("names");
    for name in [&b"a\tb"[..], b"a\r\nb", b"caf\xe9.txt", b"\x1b[2J", b" a "] {
        fs::write(gopher.folder.join(OsStr::from_bytes(name)), "coffee\n").unwrap();
    }
    let menu = exchange(gopher.addr, b"\r\n");
    let port = gopher.addr.port();
    let rest = format!("\t127.0.0.1\t{port}\r\n");
    let lines = [
        b"9 a \t/ a ",
        rest.as_bytes(),
        b"0caf\xe9.txt\t/caf\xe9.txt",
        rest.as_bytes(),
        b"1sub\t/sub",
        rest.as_bytes(),
        b".\r\n",
    ];
    assert_eq!(menu, lines.concat());
    assert_eq!(
        exchange(gopher.addr, b"/caf\xe9.txt\r\n"),
        b"coffee\r\n.\r\n"
    );
    assert_eq!(gopher.get("/ a "), "coffee\n");
    gopher.stops();
}

#[test]
fn texts_keep_their_lines_however_long_and_however_they_end() {
    let gopher = Gopher::start("texts");
    let long = "x".repeat(100_000);
    // The server reads a line in parts of 4096 bytes. A part that begins with a dot need not begin a line.
    let dots = ".".repeat(9000);
    let at_border = format!("{}\r\n", "x".repeat(4095));
    for (content, sent) in [
        ("", ".\r\n".to_owned()),
        ("\n", "\r\n.\r\n".to_owned()),
        (".", "..\r\n.\r\n".to_owned()),
        ("a\r\nb\nc", "a\r\nb\r\nc\r\n.\r\n".to_owned()),
        ("a\rb\r\n\r\n", "a\rb\r\n\r\n.\r\n".to_owned()),
        (&long, format!("{long}\r\n.\r\n")),
        (&dots, format!(".{dots}\r\n.\r\n")),
        (&at_border, format!("{at_border}.\r\n")),
    ] {
        gopher.has("text.txt", content);
        assert_eq!(gopher.get("text.txt"), sent, "{content:.20?}");
    }
    gopher.stops();
}

#[test]
fn a_selector_that_drips_is_ended_and_a_client_that_hangs_up_affects_no_other() {
    let gopher = Gopher::start("drip");
    let (addr, bytes) = (gopher.addr, noise(9, 16 << 20));
    gopher.has("noise.bin", &bytes);
    let mut reader = connect(addr);
    reader.write_all(b"noise.bin\r\n").unwrap();
    // The client has read a part of the file, and closes without reading the rest.
    reader.read_exact(&mut [0; 1000]).unwrap();
    drop(reader);
    eventually("the reader's reset", || {
        gopher.server.stderr.text().contains("reason=reset")
    });
    let taken = drip(addr, &[b'x'; 200]).expect("the server ends the connection");
    assert!((10..19).contains(&taken.as_secs()), "{taken:?}");
    eventually("the reason", || {
        gopher.server.stderr.text().contains("reason=deadline")
    });
    assert!(exchange(addr, b"noise.bin\r\n") == bytes);
    gopher.server.gets(Signal::TERM);
}

#[test]
fn only_a_folder_is_served() {
    let file = env!("CARGO_BIN_EXE_echod");
    for (place, error) in [("/nowhere", "No such file"), (file, "it is not a folder")] {
        let ended = Session::start(example("gopher").args([place, "127.0.0.1:0"])).ends();
        assert_eq!(ended.code, Some(1));
        let told = format!("cannot serve {place}: {error}");
        assert!(ended.stderr.contains(&told), "{}", ended.stderr);
    }
}
