//! What `/proc` shows of a process and of the kernel's memory. Quantities are `f64`,
//! because they are divided by the number of connections.

use std::fs;

/// What the server's process holds, and the CPU time that it has used.
pub(crate) struct Sample {
    /// In kB.
    pub(crate) resident: f64,
    pub(crate) threads: f64,
    /// In seconds.
    pub(crate) cpu: f64,
}

impl Sample {
    pub(crate) fn parse(status: &str, stat: &str) -> Option<Self> {
        // The second field is the program's name, in parentheses. User and system time are the
        // fields 14 and 15, in ticks of 10 ms.
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks = |field: usize| number(fields, field - 3);
        Some(Self {
            resident: number(line(status, "VmRSS:")?, 0)?,
            threads: number(line(status, "Threads:")?, 0)?,
            cpu: (ticks(14)? + ticks(15)?) / 100.0,
        })
    }
}

/// The kernel's caches of the objects that a connection consists of. The kernel may keep other
/// objects of the same size in the same cache.
const SLABS: [&str; 5] = ["TCP", "sock_inode_cache", "dentry", "filp", "eventpoll_epi"];

/// Returns what the kernel's tables show of its memory. Only root can read the slabs.
pub(crate) fn kernel_memory() -> Vec<(String, f64)> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (sockets, memory, slabs) = (
        read("/proc/net/sockstat"),
        read("/proc/meminfo"),
        read("/proc/slabinfo"),
    );
    let slab = |name| {
        let slab = line(&slabs, &format!("{name} "))?;
        let (objects, bytes) = (number(slab, 0)?, number(slab, 2)?);
        Some((format!("kernel: {name}, kB"), objects * bytes / 1024.0))
    };
    let buffers = line(&sockets, "TCP:").and_then(|line| number(line.split_once("mem")?.1, 0));
    let stacks = line(&memory, "KernelStack:").and_then(|line| number(line, 0));
    [
        buffers.map(|pages| ("kernel: TCP buffers, pages".to_owned(), pages)),
        stacks.map(|kilobytes| ("kernel: stacks of threads, kB".to_owned(), kilobytes)),
    ]
    .into_iter()
    .chain(SLABS.map(slab))
    .flatten()
    .collect()
}

/// Returns what follows `name` at the beginning of a line.
fn line<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// Returns the number that is a word of `line`. The first word is word 0.
fn number(line: &str, word: usize) -> Option<f64> {
    line.split_whitespace().nth(word)?.parse().ok()
}
