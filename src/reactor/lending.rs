//! Connections that leave the loop of a reactor for a while, because a thread of the server has to move
//! their stream or run a hook. The loop must do neither: both may block.

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
    /// Lends a connection that streams to a thread, if there are a thread and a pipe for it. Returns
    /// whether the connection has left the loop.
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
        // If there is no thread, `try_run` drops the job. Sharing the connection keeps it alive then.
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

    /// Reports an error that has ended a connection. With an error hook, which is code of users, a thread
    /// does so. Returns whether the connection has left the loop for that.
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

    /// Closes a connection. With a close hook, which is code of users, a thread does so.
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

/// Gives a connection from a thread back to the loop, or carries it here if the loop can't take it.
fn bring_back(reactor: &Reactor, carried: Box<Carried>) {
    // This wait makes the loop advance the connection at once.
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
