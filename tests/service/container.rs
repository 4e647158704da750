//! The image of `systemd/Containerfile`, without a container engine. The test does the steps of the file
//! itself, and its root folder holds only the binary.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::PROJECT;
use crate::support::{
    available, connect, copy_program, exchange, finish, in_own_network, ping, read_to_end,
};

const FILE: &str = include_str!("../../systemd/Containerfile");

/// Returns the argument of the last such instruction in the file.
fn instruction(name: &str) -> &'static str {
    let mut lines = FILE.lines().filter_map(|line| line.strip_prefix(name));
    lines.next_back().unwrap().trim()
}

/// Returns the words of an instruction that is a JSON array.
fn words(array: &str) -> Vec<String> {
    serde_json::from_str(array).unwrap()
}

/// Builds the binary as the file does, but without optimization, which takes minutes.
fn build() -> PathBuf {
    let line = FILE.lines().find(|line| line.contains("cargo build"));
    let line = line.unwrap().strip_prefix("RUN ").unwrap();
    assert!(line.contains(" --release "));
    let line = line.replace(" --release ", " ");
    let target = format!("{PROJECT}/target/static");
    let output = Command::new("sh")
        .args(["-c", &line])
        .current_dir(PROJECT)
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut hosts = fs::read_dir(target).unwrap();
    let built = hosts.find_map(|host| {
        let path = host.unwrap().path().join("debug/echod");
        // The target folder has one folder for the binary, and another one for procedural macros.
        path.exists().then_some(path)
    });
    built.unwrap()
}

/// A root folder that holds only the binary. It is removed when the test ends.
struct Root(PathBuf);

impl Root {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("echod-root-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        copy_program(build(), root.join("echod"));
        Self(root)
    }

    /// Runs a command in a container, as the user of the file and with its variable.
    fn run(&self, words: &[String], args: &[&str]) -> Command {
        let (name, value) = instruction("ENV ").split_once('=').unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--kill-child", "chroot", "--groups="])
            .arg(format!("--userspec={}", instruction("USER ")))
            .arg(&self.0)
            .args(words)
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env(name, value);
        command
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn first_process(unshare: &Child) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", unshare.id());
    let children = fs::read_to_string(path).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

#[test]
fn the_image_of_the_containerfile_holds_all_that_the_daemon_needs() {
    if !available(&["unshare", "nsenter", "chroot", "ip"]) {
        return;
    }
    let root = Root::new();
    in_own_network(|| serves_and_stops(&root));
    in_own_network(|| unknown_names_are_errors(&root));
}

fn serves_and_stops(root: &Root) {
    let entry_point = words(instruction("ENTRYPOINT "));
    let mut container = root
        .run(&entry_point, &[])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(container.stderr.take().unwrap()).lines();
    let listening = format!("listening on [::]:{}", instruction("EXPOSE "));
    let line = log.next().unwrap().unwrap();
    assert!(line.ends_with(&listening), "{line}");

    // The daemon has no libraries, no shell, no /proc, no /dev and no privilege, and is process 1.
    let echod = first_process(&container);
    let status = fs::read_to_string(format!("/proc/{}/status", echod.as_raw_nonzero())).unwrap();
    for expected in [
        "Uid:\t65532\t65532\t65532\t65532\n",
        "CapEff:\t0000000000000000\n",
        "\t1\n",
    ] {
        assert!(status.contains(expected), "{expected} {status}");
    }
    let names: Vec<_> = fs::read_dir(&root.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["echod"]);

    // The echo works from outside, and the health check works inside.
    let addr = format!("127.0.0.1:{}", instruction("EXPOSE "))
        .parse()
        .unwrap();
    assert_eq!(exchange(addr, b"here"), b"here");
    let (_, check) = FILE.split_once("HEALTHCHECK ").unwrap();
    let (_, check) = check.lines().next().unwrap().split_once("CMD ").unwrap();
    let user = instruction("USER ").split(':').next().unwrap();
    let inside = |words: &[String]| {
        Command::new("nsenter")
            .args([
                "--pid", "--root", "--wd", "-S", user, "-G", user, "--target",
            ])
            .arg(echod.as_raw_nonzero().to_string())
            .args(words)
            .output()
            .unwrap()
    };
    let check = words(check);
    let healthy = inside(&check);
    assert!(healthy.status.success(), "{healthy:?}");

    let client = connect(addr);
    ping(&client, b"here");
    assert_eq!(instruction("STOPSIGNAL "), "SIGTERM");
    kill_process(echod, Signal::TERM).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"", "the end of the drain");
    drop(client);
    assert_eq!(finish(&mut container).code(), Some(0));
    let last = log.last().unwrap().unwrap();
    assert!(last.contains("stopped: connections=3 "), "{last}");
    let unhealthy = root.run(&check, &[]).output().unwrap();
    assert_eq!(unhealthy.status.code(), Some(4), "{unhealthy:?}");
}

/// Checks that a name fails if the files to look it up are missing, and that the error says which name.
fn unknown_names_are_errors(root: &Root) {
    let entry_point = words(instruction("ENTRYPOINT "));
    for (addr, error) in [
        (
            "localhost:7007",
            "cannot resolve localhost:7007: failed to lookup address information: ",
        ),
        (
            "127.0.0.1:echo",
            "cannot resolve 127.0.0.1:echo: no TCP service is named \"echo\"\n",
        ),
    ] {
        let output = root
            .run(&entry_point, &["--listen", addr])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(said(&output).contains(error), "{}", said(&output));
    }
    let output = root.run(&entry_point, &["--print-addr"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = "cannot print to standard output: cannot open /dev/null: No such file or directory";
    assert!(said(&output).contains(error), "{}", said(&output));
    // A container engine adds this file.
    fs::create_dir(root.0.join("etc")).unwrap();
    fs::write(root.0.join("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
    let output = root
        .run(&words("[\"/echod\", \"probe\"]"), &["localhost:7007"])
        .output()
        .unwrap();
    assert!(
        said(&output).contains("cannot connect to 127.0.0.1:7007: connection refused"),
        "{}",
        said(&output)
    );
}
