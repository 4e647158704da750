use std::thread;

use rustix::io::Errno;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Runs `run` on a thread in which this system call, or only the call with this argument, fails with `errno`,
/// as in a sandbox. The filter also applies to threads that this thread starts.
pub(crate) fn refused<T: Send>(
    call: i64,
    argument: Option<(u8, i32)>,
    errno: Errno,
    run: impl FnOnce() -> T + Send,
) -> T {
    let condition = |(index, value): (u8, i32)| {
        let value = u64::try_from(value).unwrap();
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).unwrap()
    };
    let rules = argument.map(|argument| SeccompRule::new(vec![condition(argument)]).unwrap());
    let filter = SeccompFilter::new(
        // Without a rule, the filter applies to every such call.
        [(call, rules.into_iter().collect())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.raw_os_error().unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            apply_filter(&program).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}
