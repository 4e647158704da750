use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::{available, skip};

/// Runs `run` on a thread whose network is its own: a loopback interface that is up, all ports free, and
/// settings and rules of its own. The programs that the thread starts are in that network, too. Skips the
/// test where that takes a privilege that it lacks.
pub(crate) fn in_own_network(run: impl FnOnce() + Send) {
    if !available(&["ip"]) {
        return;
    }
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let outcome = thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
            match unshare(CloneFlags::CLONE_NEWNET) {
                Err(Errno::EPERM) => return skip("a network of its own takes root"),
                made => made.unwrap(),
            }
            must(Command::new("ip").args(["link", "set", "lo", "up"]));
            run();
        });
        thread.unwrap().join()
    });
    outcome.unwrap_or_else(|cause| std::panic::resume_unwind(cause));
}

/// Runs a program, and fails unless it succeeds.
pub(crate) fn must(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
