//! The service `metrics`: shows the counters of all services to Prometheus over HTTP.

mod format;
mod list;

use std::io;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use socketserver::Connection;

use crate::http::{self, NOT_FOUND, OK, Request, Response, UNAVAILABLE};
use crate::run::Handles;
use format::Format;
use list::List;

/// The metrics of this process, ready to be scraped.
pub(crate) struct Metrics {
    registry: Registry,
    handles: Arc<Handles>,
}

impl Metrics {
    pub(crate) fn new(handles: &Arc<Handles>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(List::new(handles)));
        Self {
            registry,
            handles: Arc::clone(handles),
        }
    }

    /// Answers one request.
    pub(crate) fn answer(&self, conn: &Connection) -> io::Result<()> {
        http::serve(conn, |request| self.respond(request))
    }

    fn respond(&self, request: &Request) -> Response {
        match &*request.path {
            "/metrics" => {
                let format = Format::of(&request.accept);
                Response::new(OK, format.content_type(), format.text(&self.registry))
            }
            "/ready" if self.handles.is_ready() => Response::text(OK, "ready"),
            "/ready" => Response::text(UNAVAILABLE, "stopping"),
            "/" => Response::text(
                OK,
                "echod: metrics are at /metrics; /ready answers 200 while new clients should come, else 503",
            ),
            _ => Response::text(NOT_FOUND, "unknown path; known paths: /metrics, /ready"),
        }
    }
}
