//! The hooks of a server: closures that the server calls for each connection.

use super::Builder;
use crate::connection::Connection;
use crate::state::closed::{CloseHook, ClosedConnection};
use crate::worker::handler::HandlerError;

impl Builder {
    /// Sets a hook that decides whether a connection is served. Defaults to serving all connections.
    ///
    /// The hook runs on the connection's thread. If it returns `false`, the server closes the connection
    /// with a FIN, for the reason [`Denied`](crate::CloseReason::Denied). A panic in the hook closes that
    /// connection and nothing else, unless the program is built with `panic = "abort"`.
    #[must_use]
    pub fn verify_request<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection) -> bool + Send + Sync + 'static,
    {
        self.hooks.verify = Some(Box::new(hook));
        self
    }

    /// Sets a hook that receives every error and panic of a handler, instead of the log.
    ///
    /// The errors include those of the connection itself, such as a reset by the peer or a timeout. A
    /// panic in the hook closes that connection and nothing else, unless the program is built with
    /// `panic = "abort"`.
    ///
    /// Without a hook, the server [logs](crate#logging) a panic at error. It logs an error as a warning
    /// once per episode, and otherwise at debug. Errors of the connection itself appear only as the reason
    /// in the connection's line.
    #[must_use]
    pub fn handle_error<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, &HandlerError) + Send + Sync + 'static,
    {
        self.hooks.handle_error = Some(Box::new(hook));
        self
    }

    /// Sets a hook that receives each connection that has ended: for access logs, accounting and metrics.
    /// Defaults to none.
    ///
    /// The hook runs after the descriptor was closed and before the connection's slot is free again. A
    /// slow hook therefore delays new connections at the limit, and nothing else. A stop waits for hooks
    /// as it waits for connections. A panic in the hook is logged, and affects nothing else.
    ///
    /// The hook runs on a thread of the server. It runs on the calling thread in
    /// [`handle_request`](crate::TcpServer::handle_request), for connections whose handlers ignore an abort,
    /// and if a server that no longer accepts can't start a thread.
    ///
    /// The hook does not receive clients that are rejected at a limit: see
    /// [`Totals::rejected`](crate::Totals::rejected).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), socketserver::Error> {
    /// use socketserver::{CloseReason, TcpServer};
    ///
    /// let server = TcpServer::builder()
    ///     .on_close(|closed| {
    ///         if closed.reason() == CloseReason::Stalled {
    ///             eprintln!("{} does not read", closed.peer_addr());
    ///         }
    ///     })
    ///     .bind("127.0.0.1:0")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_close<F>(mut self, hook: F) -> Self
    where
        F: Fn(&ClosedConnection) + Send + Sync + 'static,
    {
        self.close_hook = Some(CloseHook(Box::new(hook)));
        self
    }
}
