//! The daemon under the supervisors of `systemd/other-managers.md`, with the files that the page shows.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    available, connect, copy_program, eventually, exchange, finish, in_own_network, ping,
    read_to_end, while_clients_come,
};

const PAGE: &str = include_str!("../../systemd/other-managers.md");

/// The address of the daemon. The test runs in a network namespace, so the port is free.
const ADDR: &str = "127.0.0.1:7";

/// A folder with `echod`, which every user can run there, the log, and the files of the page in `work`. It is
/// removed when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("echod-{name}-{}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(folder.0.join("bin")).unwrap();
        fs::create_dir(folder.work()).unwrap();
        copy_program(env!("CARGO_BIN_EXE_echod"), folder.0.join("bin/echod"));
        folder
    }

    fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// Writes the files of a section of the page, and puts the log into this folder.
    fn write_files(&self, section: &str) {
        let (_, rest) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
        let text = rest.split("\n## ").next().unwrap();
        let mut blocks = text.split("`:\n\n```");
        let mut before = blocks.next().unwrap();
        for block in blocks {
            let (_, name) = before.rsplit_once('`').unwrap();
            let (_, content) = block.split_once('\n').unwrap();
            let (content, _) = content.split_once("```").unwrap();
            before = block;
            let log = self.0.join("log").display().to_string();
            let content = content.replace("/var/log/echod", &log);
            let path = self.work().join(name.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}:/usr/sbin", self.0.join("bin").display());
        command.current_dir(self.work()).env("PATH", path);
        command
    }

    /// Runs a shell command. Returns its output if it succeeds.
    fn sh(&self, line: &str) -> Option<String> {
        let output = self.command("sh").args(["-c", line]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| text.trim().to_owned())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A supervisor, as shell commands that run in the folder of the files.
struct Manager<'m> {
    /// Starts the supervisor itself, which stays in the foreground.
    run: &'m str,
    /// Waits until the daemon is ready, or fails.
    is_ready: &'m str,
    /// Prints the process id of the daemon.
    pid: &'m str,
    /// Stops the daemon, and waits until it has ended.
    stop: &'m str,
    /// Prints the exit status of the daemon, as soon as the supervisor knows it.
    code: &'m str,
    clean: &'m str,
}

/// A running supervisor. It ends when the test ends.
struct Running(Child);

impl Running {
    fn start(folder: &Folder, line: &str) -> Self {
        let log = fs::File::create(folder.0.join("supervisor.log")).unwrap();
        let child = folder
            .command("sh")
            .args(["-c", &format!("exec {line}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(child.unwrap())
    }

    fn stop(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
        finish(&mut self.0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // On SIGTERM, the supervisor also ends the processes that it has started. A SIGKILL would leave them.
        if let Ok(None) = self.0.try_wait() {
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

/// Checks that the supervisor starts the daemon, restarts it after a crash, and stops it.
fn supervises(folder: &Folder, manager: &Manager<'_>) -> Running {
    let addr: SocketAddr = ADDR.parse().unwrap();
    let running = Running::start(folder, manager.run);
    let ready = || eventually("readiness", || folder.sh(manager.is_ready).is_some());
    let pid = || folder.sh(manager.pid).and_then(|pid| pid.parse().ok());

    ready();
    assert_eq!(exchange(addr, b"here"), b"here");
    let first: i32 = pid().unwrap();
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    let uid = status
        .lines()
        .find(|line| line.starts_with("Uid:"))
        .unwrap();
    assert!(!uid.contains("\t0"), "it is root: {uid}");

    kill_process(Pid::from_raw(first).unwrap(), Signal::KILL).unwrap();
    eventually("another process", || {
        pid().is_some_and(|pid| pid != first && pid > 0)
    });
    ready();
    assert_eq!(exchange(addr, b"here"), b"here");

    // A connected client gets what is due, and then end of file.
    let client = connect(addr);
    ping(&client, b"here");
    (&client).write_all(b"due").unwrap();
    assert!(folder.sh(manager.stop).is_some(), "it can't be stopped");
    assert_eq!(read_to_end(&client).unwrap(), b"due");
    eventually("a clean end", || {
        folder.sh(manager.code).as_deref() == Some(manager.clean)
    });
    assert!(TcpStream::connect(addr).is_err());
    running
}

#[test]
fn s6_knows_when_the_daemon_listens() {
    if !available(&["s6-svscan", "setpriv"]) {
        return;
    }
    in_own_network(|| {
        let folder = Folder::new("s6");
        folder.write_files("s6");
        let manager = Manager {
            run: "s6-svscan",
            // s6 learns this from a line that the daemon prints, without any check.
            is_ready: "s6-svc -uwU -T 10000 echod",
            pid: "s6-svstat -o pid echod",
            stop: "s6-svc -dwD -T 10000 echod",
            code: "s6-svstat -o exitcode echod",
            clean: "0",
        };
        assert!(PAGE.contains(manager.is_ready) && PAGE.contains(manager.stop));
        let running = supervises(&folder, &manager);
        let log = fs::read_to_string(folder.0.join("log/current")).unwrap();
        assert!(log.contains("listening on [::]:7\n"), "{log}");
        assert!(log.contains("aborted=0\n"), "{log}");
        running.stop(Signal::TERM);
    });
}

#[test]
fn runit_checks_whether_the_daemon_listens() {
    if !available(&["runsv", "sv", "setpriv"]) {
        return;
    }
    in_own_network(|| {
        let folder = Folder::new("runit");
        folder.write_files("runit");
        let running = supervises(
            &folder,
            &Manager {
                run: "runsv echod",
                // This command runs the script `check`.
                is_ready: "sv -w 20 start ./echod",
                pid: "cat echod/supervise/pid",
                stop: "sv -w 20 stop ./echod",
                // The script `finish` logs the end of the killed process, and then that of the stopped one.
                code: "grep -o 'echod ended with .*' ../log/current | tr '\\n' ,",
                clean: "echod ended with -1,echod ended with 0,",
            },
        );
        running.stop(Signal::TERM);
    });
}

/// The part of the configuration that the page leaves out, because the package of supervisor has it.
const SUPERVISOR: &str = "\
[supervisord]
nodaemon=true
user=root
logfile=main.log
pidfile=main.pid
[unix_http_server]
file=control
[supervisorctl]
serverurl=unix://control
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files = etc/supervisor/conf.d/*.conf
";

fn with_supervisor(name: &str, test: impl FnOnce(&Folder) + Send) {
    if !available(&["supervisord", "supervisorctl"]) {
        return;
    }
    in_own_network(|| {
        let folder = Folder::new(name);
        folder.write_files("supervisor");
        let control = format!("unix://{}/control", folder.work().display());
        let config = SUPERVISOR.replace("unix://control", &control);
        fs::write(folder.work().join("supervisord.conf"), config).unwrap();
        test(&folder);
    });
}

const CONTROL: &str = "supervisorctl -c supervisord.conf";

#[test]
fn supervisor_starts_it_again_and_passes_it_the_socket() {
    with_supervisor("supervisor", |folder| {
        let running = supervises(
            folder,
            &Manager {
                run: "supervisord -c supervisord.conf",
                is_ready: &format!("{CONTROL} status echod:0 echod:1 && echod probe 127.0.0.1:7"),
                pid: &format!("{CONTROL} pid echod:0"),
                stop: &format!("{CONTROL} stop echod:0 echod:1"),
                code: "grep -c 'stopped: . (exit status 0)' main.log",
                clean: "2",
            },
        );
        running.stop(Signal::TERM);
    });
}

#[test]
fn supervisor_restarts_two_processes_without_a_gap() {
    with_supervisor("supervisor-restart", |folder| {
        let running = Running::start(folder, "supervisord -c supervisord.conf");
        let status = format!("{CONTROL} status echod:0 echod:1");
        eventually("both", || folder.sh(&status).is_some());
        while_clients_come(ADDR.parse().unwrap(), || {
            let restart = "supervisorctl restart echod:0 && supervisorctl restart echod:1";
            assert!(PAGE.contains(restart));
            let restart = restart.replace("supervisorctl", CONTROL);
            assert!(folder.sh(&restart).is_some());
        });
        running.stop(Signal::TERM);
    });
}

#[test]
fn s6_restarts_without_a_gap_by_two_services() {
    if !available(&["s6-svscan", "setpriv"]) {
        return;
    }
    in_own_network(|| {
        let folder = Folder::new("s6-restart");
        folder.write_files("s6");
        let run = fs::read_to_string(folder.work().join("echod/run")).unwrap();
        let run = run.replace(
            "--listen :7",
            "--listen :7 --reuse-port --shutdown-delay 500ms",
        );
        fs::write(folder.work().join("echod/run"), run).unwrap();
        let copies =
            "cp -r echod echod-a && mv echod echod-b && rm -r echod-?/log && touch echod-b/down";
        assert!(folder.sh(copies).is_some());
        let running = Running::start(&folder, "s6-svscan");
        eventually("the first", || {
            folder.sh("s6-svc -uwU -T 10000 echod-a").is_some()
        });
        let swap = "s6-svc -uwU -T 10000 echod-b && s6-svc -d echod-a";
        assert!(PAGE.contains(swap));
        while_clients_come(ADDR.parse().unwrap(), || {
            assert!(folder.sh(swap).is_some());
            assert!(folder.sh("s6-svwait -d -t 10000 echod-a").is_some());
        });
        running.stop(Signal::TERM);
    });
}

#[test]
fn a_script_restarts_it_without_a_gap() {
    in_own_network(|| {
        let folder = Folder::new("script");
        let (_, rest) = PAGE.split_once("```sh\nechod --listen :7007").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        let (first, second) = script.split_once("exec 3<").unwrap();
        let script = format!(
            "echod --listen :7007{first}
            until echod probe :7007; do :; done
            exec 3<{second}
            wait $old || exit
            echod probe :7007 && kill $!",
        );
        let output = folder.command("bash").args(["-ec", &script]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
    });
}

/// Returns the child of `unshare`, which is process 1 in its container.
fn first_process(unshare: &Child) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", unshare.id());
    let mut pid = None;
    eventually("the first process", || {
        let children = fs::read_to_string(&path).unwrap();
        pid = children.trim().parse().ok().and_then(Pid::from_raw);
        pid.is_some()
    });
    pid.unwrap()
}

#[test]
fn as_the_first_process_of_a_container_the_daemon_handles_signals() {
    if !available(&["unshare"]) {
        return;
    }
    in_own_network(|| {
        let folder = Folder::new("first");
        let addr = "127.0.0.1:7007".parse().unwrap();
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let mut unshare = folder
                .command("unshare")
                .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
                // The tests may run under nohup(1), which makes its children ignore SIGHUP.
                .args(["env", "--default-signal=HUP"])
                .args(["echod", "--listen", ":7007", "--print-addr"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // The daemon prints this line when it listens. Read only the line, because `unshare` keeps
            // standard output open.
            let mut printed = String::new();
            let mut stdout = BufReader::new(unshare.stdout.take().unwrap());
            stdout.read_line(&mut printed).unwrap();
            assert_eq!(printed, "[::]:7007\n");
            let echod = first_process(&unshare);
            let status = format!("/proc/{}/status", echod.as_raw_nonzero());
            let status = fs::read_to_string(status).unwrap();
            let numbers = status.lines().find(|line| line.starts_with("NSpid:"));
            assert!(numbers.unwrap().ends_with("\t1"), "{status}");

            let client = connect(addr);
            ping(&client, b"here");
            kill_process(echod, signal).unwrap();
            assert_eq!(read_to_end(&client).unwrap(), b"");
            drop(client);
            assert_eq!(finish(&mut unshare).code(), Some(0));
        }
    });
}
