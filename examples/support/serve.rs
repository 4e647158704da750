//! Runs the larger examples of servers. `graceful.rs` has the same lines, and explains them.

use std::error::Error;

use env_logger::Env;
use socketserver::{Builder, RequestHandler};

/// Serves at `addr` until Ctrl-C. A second Ctrl-C aborts the connections that are left.
pub(crate) fn serve<F, H>(builder: Builder, addr: &str, factory: F) -> Result<(), Box<dyn Error>>
where
    F: Fn() -> H + Send + Sync + 'static,
    H: RequestHandler + 'static,
{
    env_logger::Builder::from_env(Env::default().default_filter_or("info")).init();
    let server = builder.bind(addr)?;
    let handle = server.handle();
    let mut is_stopping = false;
    ctrlc::set_handler(move || {
        if is_stopping {
            handle.shutdown_now();
        } else {
            handle.shutdown();
        }
        is_stopping = true;
    })?;
    server.serve_forever(factory)?;
    Ok(())
}
