//! The threads that serve connections: one is started, lent again while it is idle, let go.
//!
//! A worker is reserved before a connection is accepted. So when the system refuses a thread,
//! the client is still safe in the listener's backlog, just as when it refuses a descriptor. Only in
//! a burst are some accepted ahead, and wait in the acceptor instead.

pub(crate) mod handler;
pub(crate) mod session;

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long an idle thread waits for its next connection. Long enough for one busy burst to
/// reuse the threads of the last, short enough that a quiet server soon has none.
const KEEP: Duration = Duration::from_secs(10);

/// What a worker runs.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads of one server. They end by themselves once this is dropped.
#[derive(Debug)]
pub(crate) struct Workers {
    stack_size: Option<usize>,
    pool: Arc<Mutex<Pool>>,
}

#[derive(Debug, Default)]
struct Pool {
    /// The most recently used is last, and lent first: its stack is warm, and the others get to
    /// the end of their wait.
    idle: Vec<Mailbox>,
    started: u64,
    closed: bool,
}

/// Where an idle thread gets its next job. Dropping it ends the thread.
#[derive(Debug)]
struct Mailbox {
    id: u64,
    sender: SyncSender<(Job, Mailbox)>,
}

impl Workers {
    /// `stack_size` is in bytes; without one the standard library's default holds.
    pub(crate) fn new(stack_size: Option<usize>) -> Self {
        Self {
            stack_size,
            pool: Arc::default(),
        }
    }

    /// Returns an idle thread, or starts one.
    ///
    /// # Errors
    ///
    /// That of `pthread_create(3)` when the system refuses another thread.
    pub(crate) fn reserve(&self) -> io::Result<Worker> {
        let idle = lock(&self.pool).idle.pop();
        let mailbox = match idle {
            Some(mailbox) => mailbox,
            None => start(Arc::clone(&self.pool), self.stack_size)?,
        };
        Ok(Worker {
            pool: Arc::clone(&self.pool),
            mailbox: Some(mailbox),
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut pool = lock(&self.pool);
        pool.closed = true;
        pool.idle.clear();
    }
}

/// A thread that is waiting for a job. Dropping it unused makes it idle again.
#[derive(Debug)]
pub(crate) struct Worker {
    pool: Arc<Mutex<Pool>>,
    mailbox: Option<Mailbox>,
}

impl Worker {
    pub(crate) fn run(mut self, job: Job) {
        if let Some(mailbox) = self.mailbox.take() {
            let sender = mailbox.sender.clone();
            // A reserved thread is in its `recv`, so the job arrives.
            let _ = sender.send((job, mailbox));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            make_idle(&self.pool, mailbox);
        }
    }
}

fn start(pool: Arc<Mutex<Pool>>, stack_size: Option<usize>) -> io::Result<Mailbox> {
    let id = {
        let mut pool = lock(&pool);
        pool.started += 1;
        pool.started
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    let mut builder = thread::Builder::new().name("connection".to_owned());
    if let Some(size) = stack_size {
        builder = builder.stack_size(size);
    }
    builder.spawn(move || work(&pool, id, &receiver))?;
    Ok(Mailbox { id, sender })
}

fn work(pool: &Mutex<Pool>, id: u64, jobs: &Receiver<(Job, Mailbox)>) {
    loop {
        match jobs.recv_timeout(KEEP) {
            Ok((job, mailbox)) => {
                job();
                make_idle(pool, mailbox);
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut pool = lock(pool);
                let found = pool.idle.iter().position(|mailbox| mailbox.id == id);
                // One that is not idle has just been reserved: its job is on the way.
                if let Some(position) = found {
                    pool.idle.remove(position);
                    return;
                }
            }
        }
    }
}

/// Puts a thread's mailbox where the loop finds it, or drops it if there is no loop any more.
fn make_idle(pool: &Mutex<Pool>, mailbox: Mailbox) {
    let mut pool = lock(pool);
    if !pool.closed {
        pool.idle.push(mailbox);
    }
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn thread_of(workers: &Workers) -> ThreadId {
        let (sender, receiver) = mpsc::channel();
        let job = Box::new(move || sender.send(thread::current().id()).unwrap());
        workers.reserve().unwrap().run(job);
        receiver.recv_timeout(SOON).unwrap()
    }

    fn until_idle(workers: &Workers, count: usize) {
        let deadline = std::time::Instant::now() + SOON;
        while lock(&workers.pool).idle.len() != count {
            assert!(std::time::Instant::now() < deadline, "not idle in time");
            thread::yield_now();
        }
    }

    #[test]
    fn an_idle_thread_is_lent_again() {
        let workers = Workers::new(None);
        let first = thread_of(&workers);
        until_idle(&workers, 1);
        assert_eq!(thread_of(&workers), first);
    }

    #[test]
    fn a_reserved_thread_that_is_not_needed_becomes_idle() {
        let workers = Workers::new(None);
        drop(workers.reserve().unwrap());
        until_idle(&workers, 1);
        thread_of(&workers);
        assert_eq!(lock(&workers.pool).started, 1);
    }

    #[test]
    fn threads_end_when_the_workers_are_dropped() {
        let workers = Workers::new(None);
        let (sender, receiver) = mpsc::channel::<()>();
        let (go, wait) = mpsc::channel::<()>();
        workers.reserve().unwrap().run(Box::new(move || {
            let _ = wait.recv();
            drop(sender);
        }));
        drop(workers.reserve().unwrap());
        let pool = Arc::downgrade(&workers.pool);
        drop(workers);
        go.send(()).unwrap();
        assert!(receiver.recv_timeout(SOON).is_err());
        let deadline = std::time::Instant::now() + SOON;
        // Each thread holds the pool until it ends.
        while pool.strong_count() > 0 {
            assert!(std::time::Instant::now() < deadline, "a thread did not end");
            thread::yield_now();
        }
    }
}
