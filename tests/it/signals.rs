//! Signals to a real daemon, in every state that it can be in.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    Daemon, TIMEOUT, available, connect, copy_program, eventually, exchange, finish, noise, ping,
    read_to_end, skip,
};

#[test]
fn every_stop_signal_ends_an_idle_daemon_cleanly() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        // The tests may run under nohup(1), which makes its children ignore SIGHUP.
        let daemon = Daemon::spawn(
            Command::new("env")
                .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_echod")])
                .args(["--listen", "127.0.0.1:0"]),
        );
        daemon.signal(signal);
        let output = daemon.wait();
        assert_eq!(output.code, Some(0));
        assert!(
            output
                .log
                .contains("stopped: connections=0 rejected=0 bytes_in=0 bytes_out=0 aborted=0")
        );
    }
}

#[test]
fn under_load_every_client_gets_an_exact_prefix() {
    let daemon = Daemon::start(&["--drain-timeout", "20s"]);
    let addr = daemon.addr;
    let (flowing, flows) = mpsc::channel();
    thread::scope(|scope| {
        for seed in 0..20 {
            let flowing = flowing.clone();
            scope.spawn(move || {
                let sent = noise(seed, 1 << 20);
                let client = connect(addr);
                let mut echoed = 0;
                let mut echo = vec![0; sent.len()];
                // Send message after message until the daemon ends.
                loop {
                    for message in sent.chunks(1000) {
                        if (&client).write_all(message).is_err() {
                            return;
                        }
                        let mut part = 0;
                        while part < message.len() {
                            match (&client).read(&mut echo[..message.len() - part]) {
                                Ok(0) | Err(_) => return,
                                Ok(n) => {
                                    assert_eq!(echo[..n], message[part..part + n]);
                                    part += n;
                                }
                            }
                        }
                        echoed += 1;
                        if echoed == 10 {
                            flowing.send(()).unwrap();
                        }
                    }
                }
            });
        }
        (0..20).for_each(|_| flows.recv_timeout(TIMEOUT).unwrap());
        let output = daemon.stop();
        assert_eq!(output.code, Some(0), "{}", output.log);
        assert!(output.log.contains("stopped: connections=20 "));
    });
}

#[test]
fn a_second_signal_aborts_stuck_clients_and_the_exit_code_says_so() {
    let daemon = Daemon::start(&["--drain-timeout", "1h"]);
    let _stuck = stuck_client(&daemon);
    daemon.signal(Signal::INT);
    daemon.wait_for_log("draining: connections=1");
    daemon.signal(Signal::INT);
    let output = daemon.wait();
    assert_eq!(output.code, Some(8));
    assert!(output.log.contains("aborted=1"), "{}", output.log);
    assert!(output.log.contains("reason=shutdown"), "{}", output.log);
}

#[test]
fn stuck_clients_are_aborted_at_the_drain_timeout_and_the_exit_code_says_so() {
    let daemon = Daemon::start(&["--drain-timeout", "300ms"]);
    let _stuck = stuck_client(&daemon);
    let start = Instant::now();
    let output = daemon.stop();
    assert_eq!(output.code, Some(8));
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(
        output
            .log
            .contains("drain timeout of 300ms is over: connections=1")
    );
}

/// Returns a client that sends and does not read, until the daemon is blocked in a write to it.
fn stuck_client(daemon: &Daemon) -> TcpStream {
    let mut client = connect(daemon.addr);
    client
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let block = noise(10, 1 << 20);
    while client.write_all(&block).is_ok() {}
    client
}

#[test]
fn a_signal_before_it_listens_ends_it_cleanly() {
    // The daemon must end cleanly at any point of its start, as soon as it catches signals.
    for _ in 0..30 {
        let mut child = Daemon::begin();
        eventually("a handler of SIGINT", || catches_sigint(child.id()));
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        assert_eq!(finish(&mut child).code(), Some(0));
    }
}

#[test]
fn a_stop_signal_that_the_parent_had_blocked_works() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let daemon = Daemon::spawn(
            Command::new("env")
                .args(["--default-signal=HUP", "--block-signal=INT,TERM,HUP"])
                .arg(env!("CARGO_BIN_EXE_echod"))
                .args(["--listen", "127.0.0.1:0"]),
        );
        daemon.signal(signal);
        assert_eq!(daemon.wait().code, Some(0));
    }
}

#[test]
fn under_nohup_sighup_does_nothing() {
    let daemon = Daemon::spawn(
        Command::new("nohup")
            .arg(env!("CARGO_BIN_EXE_echod"))
            .args(["--listen", "127.0.0.1:0"]),
    );
    for _ in 0..50 {
        daemon.signal(Signal::HUP);
        assert_eq!(exchange(daemon.addr, b"hello"), b"hello");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code, Some(0));
}

#[test]
fn a_background_job_of_a_script_stops_at_sigint() {
    let daemon = Daemon::spawn(
        Command::new("env")
            .args(["--ignore-signal=INT", env!("CARGO_BIN_EXE_echod")])
            .args(["--listen", "127.0.0.1:0"]),
    );
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_log_file_at_its_limit_does_not_stop_the_daemon() {
    if !available(&["prlimit"]) {
        return;
    }
    let path = std::env::temp_dir().join(format!("echod-fsize-{}", std::process::id()));
    let mut child = Command::new("prlimit")
        .args(["--fsize=10", env!("CARGO_BIN_EXE_echod")])
        .args(["--listen", "127.0.0.1:0", "--print-addr"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&path).unwrap())
        .spawn()
        .unwrap();
    let mut printed = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    let addr = printed.trim().parse().unwrap();
    // The limit cuts the line "listening on" short, and the next write would exceed it.
    eventually("a full log", || path.metadata().unwrap().len() == 10);
    for _ in 0..10 {
        assert_eq!(exchange(addr, b"hello"), b"hello");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(finish(&mut child).code(), Some(0));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_a_thread_for_signals_the_daemon_says_why() {
    if !available(&["prlimit", "setpriv"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip("it takes root to become a user without other threads");
        return;
    }
    // The limit does not apply to root. Another user may not have access to the folder of the build.
    let copy = std::env::temp_dir().join(format!("echod-nproc-{}", std::process::id()));
    copy_program(env!("CARGO_BIN_EXE_echod"), &copy);
    let output = Command::new("setpriv")
        .args(["--reuid=54321", "--clear-groups", "prlimit", "--nproc=0"])
        .arg(&copy)
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "echod: cannot start the thread for signals: Resource temporarily unavailable (os error 11)\n"
    );
}

/// Returns whether bit 2 of the mask of caught signals is set (`SigCgt`, `proc(5)`).
fn catches_sigint(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 0b10 != 0)
}

#[test]
fn a_daemon_that_is_stopped_and_continued_goes_on() {
    // If a read has a timeout, SIGCONT interrupts it.
    let daemon = Daemon::start(&["--idle-timeout", "1h", "--write-timeout", "1h"]);
    let client = connect(daemon.addr);
    ping(&client, b"before");
    for _ in 0..10 {
        daemon.signal(Signal::STOP);
        daemon.signal(Signal::CONT);
        ping(&client, b"after");
    }
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&client).unwrap(), b"");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn an_idle_daemon_makes_no_system_call() {
    if !available(&["strace"]) {
        return;
    }
    let daemon = Daemon::start(&[]);
    let client = connect(daemon.addr);
    ping(&client, b"x");
    let pid = daemon.pid().as_raw_nonzero().to_string();
    // A connection that has just become silent is checked once more.
    eventually("an idle daemon", || {
        let before = switches(&pid);
        thread::park_timeout(Duration::from_millis(100));
        switches(&pid) == before
    });
    let mut strace = Command::new("strace")
        .args(["-f", "-c", "-p", &pid])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = strace.stderr.take().unwrap();
    let mut attached = [0; 256];
    let n = stderr.read(&mut attached).unwrap();
    let attached = String::from_utf8_lossy(&attached[..n]).into_owned();
    assert!(attached.contains("attached"), "{attached}");
    // The test sends nothing during this time, in which the daemon must make no system call.
    let (_open, silence) = mpsc::channel::<()>();
    let _ = silence.recv_timeout(Duration::from_secs(5));
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    let mut report = String::new();
    stderr.read_to_string(&mut report).unwrap();
    finish(&mut strace);
    // If `strace` had counted a call, it would print a table with a line of totals.
    assert!(!report.contains("total"), "{report}");

    // The daemon that `strace` was attached to still works.
    ping(&client, b"y");
    assert_eq!(daemon.stop().code, Some(0));
}

#[test]
fn a_stop_is_not_missed_while_the_loop_looks_for_more_clients() {
    if !available(&["strace"]) {
        return;
    }
    // Delay each poll, so that the stop comes between the loop's check for a stop and the poll that the
    // wake-up must end.
    let late = ["-e", "inject=poll,ppoll:delay_enter=300000"];
    let daemon = Daemon::spawn(
        Command::new("strace")
            // With `-D`, the daemon is a child of this test, and the tracer is not.
            .args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"])
            .args(["-e", "trace=poll,ppoll"])
            .args(late)
            .arg(env!("CARGO_BIN_EXE_echod"))
            .args(["--listen", "127.0.0.1:0"]),
    );
    let client = connect(daemon.addr);
    // After this client is served, the loop checks for more clients.
    ping(&client, b"x");
    let pid = daemon.pid().as_raw_nonzero();
    let stat = format!("/proc/{pid}/task/{pid}/stat");
    eventually("the loop at its poll", || {
        !std::fs::read_to_string(&stat).unwrap().contains(") R ")
    });
    let output = daemon.stop();
    assert_eq!(output.code, Some(0), "{}", output.log);
    assert_eq!(read_to_end(&client).unwrap(), b"");
}

/// Returns how often the threads of a process have gone to sleep so far (`proc(5)`).
fn switches(pid: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> u64 {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let name = "voluntary_ctxt_switches:";
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().parse().unwrap()
    };
    tasks.map(of_task).sum()
}
