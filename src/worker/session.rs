//! A connection's life on its thread: verified, handled, and left to what carries its remainder.

use std::fmt;
use std::io::ErrorKind;

use crate::connection::Connection;
use crate::connection::close_reason::CloseReason;
use crate::connection::progress::Progress;
use crate::connection::rest::Wish;
use crate::worker::handler::{Failure, RequestHandler, catch, drive};

pub(crate) type VerifyHook = Box<dyn Fn(&Connection) -> bool + Send + Sync>;
pub(crate) type ErrorHook = Box<dyn Fn(&Connection, &Failure) + Send + Sync>;

/// The hooks of a server, which run for every connection, whatever its handler.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) verify: Option<VerifyHook>,
    pub(crate) handle_error: Option<ErrorHook>,
}

impl Hooks {
    /// Takes one connection from its verification to the end of its handler. Returns the
    /// connection, and what the handler has wished for it. No panic of a handler or a hook gets
    /// out of here.
    pub(crate) fn serve<'h>(
        &self,
        mut conn: Box<Connection>,
        make: &dyn Fn() -> Box<dyn RequestHandler + 'h>,
    ) -> (Box<Connection>, Option<Wish>) {
        let succeeded = match self.verified(&conn) {
            Ok(true) => drive(make, &mut conn, &|conn, failure| self.report(conn, failure)),
            Ok(false) => {
                conn.end(CloseReason::Denied);
                false
            }
            Err(message) => {
                self.report(&conn, &Failure::Panic(message));
                false
            }
        };
        let wish = conn.take_wish().filter(|_| succeeded);
        (conn, wish)
    }

    fn verified(&self, conn: &Connection) -> Result<bool, String> {
        match &self.verify {
            Some(verify) => catch(|| verify(conn)),
            None => Ok(true),
        }
    }

    /// Notes a failure as the reason for the end, and tells of it.
    pub(crate) fn report(&self, conn: &Connection, failure: &Failure) {
        let ended = match conn.progress() {
            Progress::Ended { reason, .. } => Some(reason),
            Progress::Open | Progress::Told | Progress::Draining { .. } => None,
        };
        match (failure, ended) {
            (Failure::Panic(_), _) => conn.end(CloseReason::Panic),
            // The end came where the handler expected more: that is the peer's doing.
            (Failure::Error(error), Some(CloseReason::Eof))
                if error.kind() == ErrorKind::UnexpectedEof => {}
            (Failure::Error(_), None | Some(CloseReason::Eof)) => conn.end(CloseReason::Error),
            // An error of the connection itself has set the reason when it happened.
            (Failure::Error(_), _) => {}
        }
        match &self.handle_error {
            Some(hook) => {
                if let Err(message) = catch(|| hook(conn, failure)) {
                    conn.end(CloseReason::Panic);
                    log_failure(conn, &Failure::Panic(message));
                }
            }
            None if matches!(conn.reason(), CloseReason::Error | CloseReason::Panic) => {
                log_failure(conn, failure);
            }
            // The reason in the connection's own line says it all.
            None => {}
        }
    }
}

/// A panic is a bug in the handler. An error is the end of one connection, and may be the
/// client's doing, so it must not be able to fill the log.
fn log_failure(conn: &Connection, failure: &Failure) {
    let level = match failure {
        Failure::Panic(_) => log::Level::Error,
        Failure::Error(_) => log::Level::Debug,
    };
    // The text may quote the client, who must not be able to forge a line. To make it is to run
    // the error's own code.
    let text = catch(|| failure.to_string())
        .unwrap_or_else(|message| format!("an error that panicked when displayed: {message}"));
    let (prefix, peer) = (conn.prefix(), conn.peer_addr());
    log::log!(
        level, service = prefix, peer:%;
        "{prefix}peer={peer} handler: {}", text.escape_debug()
    );
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("verify", &self.verify.is_some())
            .field("handle_error", &self.handle_error.is_some())
            .finish()
    }
}
