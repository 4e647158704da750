//! Connections that leave the loop of a reactor for a moment, because a thread has to do what the
//! loop must not: move a stream, or run a hook.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::carried::Carried;
use super::entrance::Reactor;
use super::event_loop::EventLoop;
use super::pipe::Pipe;
use super::poll_loop;
use super::slab::Token;
use super::step::Wait;
use crate::hand_over::hand_over_point;

impl EventLoop {
    /// Lends a connection that streams to a thread, if a thread and a pipe can be had. Returns
    /// whether the connection has left.
    pub(super) fn lend(&mut self, token: Token) -> bool {
        let reactor = Arc::clone(&self.reactor);
        let Some((threads, pipe)) = reactor.threads.upgrade().zip(Pipe::new()) else {
            if let Some(carried) = self.carried(token) {
                carried.keep();
            }
            return false;
        };
        let Some(carried) = self.take(token) else {
            return true;
        };
        // Shared, so that the connection can be taken back from a job that never ran.
        let lent = Arc::new(Mutex::new(Some((carried, pipe))));
        let take = |lent: &Mutex<Option<(Box<Carried>, Pipe)>>| {
            lent.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let job = {
            let (lent, reactor) = (Arc::clone(&lent), Arc::clone(&reactor));
            Box::new(move || {
                if let Some((carried, pipe)) = take(&lent) {
                    move_stream(&reactor, carried, pipe);
                }
            })
        };
        hand_over_point();
        if !threads.try_run(job)
            && let Some((mut carried, _)) = take(&lent)
        {
            carried.keep();
            bring_back(&reactor, carried);
        }
        true
    }

    /// Tells of an error. Returns whether the connection has left for it: a hook is code of
    /// users, and runs on a thread.
    pub(super) fn report(&mut self, token: Token, error: io::Error) -> bool {
        let reactor = Arc::clone(&self.reactor);
        let Some(threads) = reactor.threads.upgrade() else {
            return false;
        };
        if !threads.has_error_hook() {
            if let Some(carried) = self.carried(token) {
                carried.report(|conn| threads.report(conn, error));
            }
            return false;
        }
        if let Some(mut carried) = self.take(token) {
            let telling = Arc::clone(&threads);
            threads.run(Box::new(move || {
                carried.report(|conn| telling.report(conn, error));
                bring_back(&reactor, carried);
            }));
        }
        true
    }

    /// Closes a connection. With a hook, which is code of users, that happens on a thread.
    pub(super) fn close(&mut self, token: Token) {
        let threads = self.reactor.threads.upgrade();
        if let Some(threads) = threads.filter(|_| self.reactor.has_close_hook()) {
            if let Some(carried) = self.take(token) {
                threads.run(Box::new(move || {
                    carried.close();
                }));
            }
        } else if let Some(carried) = self.remove(token) {
            carried.close();
        }
    }
}

/// Moves a stream on this thread, and brings the connection back.
fn move_stream(reactor: &Reactor, mut carried: Box<Carried>, pipe: Pipe) {
    let moved = pipe.relay(&carried.conn);
    if let Some(error) = carried.resume(moved)
        && let Some(threads) = reactor.threads.upgrade()
    {
        carried.report(|conn| threads.report(conn, error));
    }
    bring_back(reactor, carried);
}

/// Lets the loop carry a connection on that was with a thread.
fn bring_back(reactor: &Reactor, carried: Box<Carried>) {
    // The loop asks the connection for its next step at once.
    let wait = Wait {
        input: true,
        room: false,
        until: Some(Instant::now()),
    };
    hand_over_point();
    if let Err(carried) = reactor.enter(carried, wait) {
        poll_loop::carry(*carried, &|conn, error| {
            if let Some(threads) = reactor.threads.upgrade() {
                threads.report(conn, error);
            }
        });
    }
}
