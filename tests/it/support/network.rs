use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::{available, skip};

/// Runs `run` on a thread in a network namespace of its own, with a loopback interface. All ports are free
/// there, and settings and rules are separate. Programs that the thread starts are in the namespace, too.
/// Skips the test if this process may not create a namespace.
pub(crate) fn in_own_network(run: impl FnOnce() + Send) {
    if !available(&["ip"]) {
        return;
    }
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let outcome = thread::scope(|scope| {
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
            match unshare(CloneFlags::CLONE_NEWNET) {
                Err(Errno::EPERM) => return skip("only root can create a network namespace"),
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
