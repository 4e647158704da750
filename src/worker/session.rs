//! A connection's life on its thread: verified, handled, closed, logged.

use std::fmt;
use std::io::ErrorKind;

use crate::connection::Connection;
use crate::connection::close_reason::Ending;
use crate::worker::handler::{Failure, RequestHandler, catch, drive};

pub(crate) type VerifyHook = Box<dyn Fn(&Connection) -> bool + Send + Sync>;
pub(crate) type ErrorHook = Box<dyn Fn(&Connection, &Failure) + Send + Sync>;

/// What happens to every connection of a server, whatever its handler.
pub(crate) struct Session {
    pub(crate) verify: Option<VerifyHook>,
    pub(crate) handle_error: Option<ErrorHook>,
}

impl Session {
    /// Takes one connection from its verification to its end. Nothing that a handler or a hook
    /// does gets out of here.
    pub(crate) fn serve<'h>(
        &self,
        mut conn: Box<Connection>,
        make: &dyn Fn() -> Box<dyn RequestHandler + 'h>,
    ) {
        match self.verified(&conn) {
            Ok(true) => drive(make, &mut conn, &|conn, failure| {
                self.report(conn, &failure);
            }),
            Ok(false) => conn.set_ending(Ending::Rejected),
            Err(message) => self.report(&conn, &Failure::Panic(message)),
        }
        conn.close();
    }

    fn verified(&self, conn: &Connection) -> Result<bool, String> {
        match &self.verify {
            Some(verify) => catch(|| verify(conn)),
            None => Ok(true),
        }
    }

    fn report(&self, conn: &Connection, failure: &Failure) {
        match (failure, conn.ending()) {
            (Failure::Panic(_), _) => conn.set_ending(Ending::Panic),
            // The end came where the handler expected more: that is the peer's doing.
            (Failure::Error(error), Ending::Eof) if error.kind() == ErrorKind::UnexpectedEof => {}
            (Failure::Error(_), Ending::Done | Ending::Eof) => conn.set_ending(Ending::Error),
            // An error of the connection itself has set its ending when it happened.
            (Failure::Error(_), _) => {}
        }
        match &self.handle_error {
            Some(hook) => {
                if let Err(message) = catch(|| hook(conn, failure)) {
                    conn.set_ending(Ending::Panic);
                    log_failure(conn, &Failure::Panic(message));
                }
            }
            None if matches!(conn.ending(), Ending::Error | Ending::Panic) => {
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
    let (tag, peer) = (conn.tag(), conn.peer_addr());
    log::log!(
        level, service = tag, peer:%;
        "{tag}peer={peer} handler: {}", text.escape_debug()
    );
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("verify", &self.verify.is_some())
            .field("handle_error", &self.handle_error.is_some())
            .finish()
    }
}
