//! The contenders: how each server is built and started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Failure, Result};

/// A server to be measured.
pub(crate) struct Contender {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    kind: Kind,
}

enum Kind {
    Echod,
    /// A Cargo project of its own, in a folder beside this file, with its own lock file.
    Cargo {
        project: &'static str,
        binary: &'static str,
        /// The package whose version is printed.
        version_of: &'static str,
    },
    Go {
        mode: &'static str,
    },
    Python,
    Xinetd,
    Socat,
    C {
        file: &'static str,
    },
}

/// All contenders. The others are compared with the first.
pub(crate) const CONTENDERS: &[Contender] = &[
    contender("echod", "this project's daemon", Kind::Echod),
    contender(
        "by-hand",
        "this library, with a handler that reads and writes",
        Kind::Cargo {
            project: "by-hand",
            binary: "by-hand",
            version_of: "socketserver",
        },
    ),
    contender(
        "tokio",
        "a task per connection",
        Kind::Cargo {
            project: "tokio",
            binary: "tokio-echo",
            version_of: "tokio",
        },
    ),
    contender(
        "monoio",
        "a task per connection, on io_uring",
        Kind::Cargo {
            project: "monoio",
            binary: "monoio-echo",
            version_of: "monoio",
        },
    ),
    contender(
        "go",
        "a goroutine per connection",
        Kind::Go { mode: "copy" },
    ),
    contender(
        "go-iocopy",
        "a goroutine per connection, with io.Copy, which splices",
        Kind::Go { mode: "iocopy" },
    ),
    contender(
        "socketserver",
        "Python's, a thread per connection",
        Kind::Python,
    ),
    contender(
        "xinetd",
        "xinetd's internal echo, a process per connection",
        Kind::Xinetd,
    ),
    contender(
        "socat",
        "two processes per connection, socat and cat",
        Kind::Socat,
    ),
    contender(
        "c-threads",
        "C, a thread per connection",
        Kind::C { file: "threads" },
    ),
    contender("c-epoll", "C, one event loop", Kind::C { file: "epoll" }),
    contender(
        "c-splice",
        "C, a thread and a pipe per connection",
        Kind::C { file: "splice" },
    ),
];

const fn contender(name: &'static str, what: &'static str, kind: Kind) -> Contender {
    Contender { name, what, kind }
}

/// The folder of the contenders' sources.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");

/// Creates the folder for the built servers, their configuration and their logs.
pub(crate) fn build_dir() -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    match fs::create_dir_all(&directory) {
        Ok(()) => Ok(directory),
        Err(error) => Err(Failure::new(format!(
            "cannot create {}: {error}",
            directory.display()
        ))),
    }
}

impl Contender {
    /// Builds the server, and returns the line that says its version.
    pub(crate) fn prepare(&self, build_dir: &Path) -> Result<String> {
        let source = |file: &str| Path::new(SOURCES).join(file);
        let out = build_dir.join(self.name);
        match &self.kind {
            Kind::Echod => first_line(Command::new(env!("CARGO_BIN_EXE_echod")).arg("--version")),
            Kind::Cargo {
                project,
                version_of,
                ..
            } => {
                let manifest = source(project).join("Cargo.toml");
                let mut build = cargo("build", &manifest);
                build.args(["--release", "--quiet", "--target-dir"]);
                run(build.arg(out))?;
                let mut tree = cargo("tree", &manifest);
                tree.args(["--depth=0", "--prefix=none", "--package"]);
                first_line(tree.arg(version_of))
            }
            Kind::Go { .. } => {
                let mut go = Command::new("go");
                // Without this, `go build` might look for a module above this project.
                go.env("GO111MODULE", "off").args(["build", "-o"]).arg(out);
                run(go.arg(source("go/main.go")))?;
                first_line(Command::new("go").arg("version"))
            }
            Kind::C { file } => {
                let mut cc = Command::new("cc");
                cc.args(["-O2", "-pthread", "-o"]).arg(out);
                run(cc.arg(source(&format!("{file}.c"))))?;
                first_line(Command::new("cc").arg("--version"))
            }
            Kind::Python => first_line(Command::new("python3").arg("--version")),
            Kind::Xinetd => first_line(Command::new("xinetd").arg("-version")),
            Kind::Socat => {
                let version = output(Command::new("socat").arg("-V"))?;
                let line = version
                    .lines()
                    .find(|line| line.starts_with("socat version"));
                Ok(line.unwrap_or("socat").to_owned())
            }
        }
    }

    /// Returns the command that starts the server at a port of 127.0.0.1. Call `prepare` first.
    pub(crate) fn command(&self, build_dir: &Path, port: u16) -> Result<Command> {
        let addr = format!("127.0.0.1:{port}");
        let mut command = Command::new(build_dir.join(self.name));
        match &self.kind {
            Kind::Echod => {
                command = Command::new(env!("CARGO_BIN_EXE_echod"));
                command.args(["-qq", "--max-connections=10000", "--listen", &addr]);
            }
            Kind::Cargo { binary, .. } => {
                let release = build_dir.join(self.name).join("release");
                command = Command::new(release.join(binary));
                command.arg(addr);
            }
            Kind::Go { mode } => {
                command.args([mode, &*addr]);
            }
            Kind::C { .. } => {
                command.arg(port.to_string());
            }
            Kind::Python => {
                command = Command::new("python3");
                command.arg(Path::new(SOURCES).join("echo.py")).arg(addr);
            }
            Kind::Xinetd => {
                let file = build_dir.join("xinetd.conf");
                fs::write(&file, xinetd_conf(port)).map_err(|error| {
                    Failure::new(format!("cannot write {}: {error}", file.display()))
                })?;
                command = Command::new("xinetd");
                command.args(["-dontfork", "-f"]).arg(file);
                command.arg("-pidfile").arg(build_dir.join("xinetd.pid"));
            }
            Kind::Socat => {
                command = Command::new("socat");
                let listen = "bind=127.0.0.1,fork,reuseaddr,backlog=4096";
                command.args([&format!("TCP-LISTEN:{port},{listen}"), "EXEC:cat"]);
            }
        }
        Ok(command)
    }
}

/// Returns a configuration of xinetd's internal echo, without xinetd's rate limits.
fn xinetd_conf(port: u16) -> String {
    format!(
        "service echo\n{{\n\
         type = INTERNAL UNLISTED\nid = echo-stream\nsocket_type = stream\nprotocol = tcp\n\
         wait = no\nbind = 127.0.0.1\nport = {port}\n\
         instances = UNLIMITED\nper_source = UNLIMITED\ncps = 0 0\n}}\n"
    )
}

/// Returns a cargo command for the project with this manifest, with the versions in its lock file.
fn cargo(subcommand: &str, manifest: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([subcommand, "--locked", "--manifest-path"]);
    cargo.arg(manifest);
    cargo
}

fn run(command: &mut Command) -> Result {
    output(command).map(drop)
}

fn first_line(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    Ok(output.lines().next().unwrap_or_default().trim().to_owned())
}

/// Runs a tool, and returns its standard output and standard error, because some print their version on
/// standard error.
fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let result = command.stdin(Stdio::null()).output();
    let output = result.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(format!("{program} is not installed")),
        _ => Failure::new(format!("cannot run {program}: {error}")),
    })?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(said.into_owned());
    }
    let why = said.lines().find(|line| line.contains("error"));
    let why = why.map_or_else(|| output.status.to_string(), str::to_owned);
    Err(Failure::new(format!("{program} failed: {why}")))
}
