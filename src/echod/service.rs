//! The services of the daemon, and how to parse `NAME=ADDR`.

use std::fmt;
use std::sync::Arc;

use clap::ValueEnum;
use socketserver::{
    ChargenHandler, DaytimeFormat, DaytimeHandler, DiscardHandler, EchoHandler, Error, TcpServer,
    TimeHandler, Totals, from_fn,
};

use crate::address::ListenAddr;
use crate::banner::Banner;
use crate::metrics::Metrics;
use crate::run::Handles;
use crate::systat;

/// Maximum simultaneous connections of a service for operators (`systat`, `metrics`). Each takes a thread
/// while its request lasts, and this many threads fit beside those of the other services.
const MAX_OPERATORS: usize = 64;

/// A service, in the order in which the services are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Service {
    Echo,
    Daytime,
    DaytimeLong,
    DaytimeShort,
    Time,
    Discard,
    Chargen,
    Systat,
    Metrics,
}

impl Service {
    /// Serves until the server has stopped.
    ///
    /// Only the echo sends the `banner`. `systat` and `metrics` read the state of `all` servers.
    pub(crate) fn serve(
        self,
        server: TcpServer,
        banner: Option<&Banner>,
        all: &Arc<Handles>,
    ) -> Result<Totals, Error> {
        let daytime = |format| move || DaytimeHandler::new().format(format);
        match self {
            Self::Echo => match banner {
                Some(banner) => {
                    let banner = banner.clone();
                    server.serve_forever(from_fn(move |conn| banner.greet(conn)))
                }
                None => server.serve_forever(EchoHandler::new),
            },
            Self::Daytime => server.serve_forever(daytime(DaytimeFormat::Nist)),
            Self::DaytimeLong => server.serve_forever(daytime(DaytimeFormat::Long)),
            Self::DaytimeShort => server.serve_forever(daytime(DaytimeFormat::Short)),
            Self::Time => server.serve_forever(TimeHandler::new),
            Self::Discard => server.serve_forever(DiscardHandler::new),
            Self::Chargen => server.serve_forever(ChargenHandler::new),
            Self::Systat => {
                let all = Arc::clone(all);
                server.serve_forever(from_fn(move |conn| systat::send(conn, &all)))
            }
            Self::Metrics => {
                let metrics = Metrics::new(all);
                server.serve_forever(from_fn(move |conn| metrics.answer(conn)))
            }
        }
    }
}

impl Service {
    /// Returns whether each connection keeps a thread until its client closes.
    pub(crate) fn needs_threads(self) -> bool {
        matches!(self, Self::Chargen)
    }

    /// Returns whether the service shows the state of the daemon, instead of serving clients.
    pub(crate) fn is_for_operators(self) -> bool {
        matches!(self, Self::Systat | Self::Metrics)
    }

    /// Returns the service's own limit of connections, where `limit` is that of `--max-connections`.
    pub(crate) fn max_connections(self, limit: usize) -> usize {
        if self.is_for_operators() {
            limit.min(MAX_OPERATORS)
        } else {
            limit
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// Parses `NAME=ADDR`.
pub(crate) fn at_address(text: &str) -> Result<(Service, ListenAddr), String> {
    let (name, addr) = text
        .split_once('=')
        .ok_or("expected NAME=ADDR, as in daytime=:13")?;
    let service = Service::from_str(name, false).map_err(|_| {
        let known = names();
        format!("unknown service {name:?}; known services: {known}")
    })?;
    Ok((service, addr.parse()?))
}

/// Returns the names of all services, separated by commas.
pub(crate) fn names() -> String {
    let all: Vec<_> = Service::value_variants()
        .iter()
        .map(Service::to_string)
        .collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_with_its_address() {
        let (service, addr) = at_address("daytime-long=[::1]:daytime").unwrap();
        assert_eq!(service, Service::DaytimeLong);
        assert_eq!(service.to_string(), "daytime-long");
        assert_eq!(addr.to_string(), "[::1]:daytime");
    }

    #[test]
    fn what_is_no_service_is_refused_with_a_hint() {
        for (text, hint) in [
            ("", "NAME=ADDR"),
            (":13", "NAME=ADDR"),
            ("daytime", "NAME=ADDR"),
            ("daytime=", "HOST:PORT"),
            ("daytime=13", "HOST:PORT"),
            (
                "gopher=:70",
                "unknown service \"gopher\"; known services: echo, daytime, ",
            ),
            ("=:13", "unknown service \"\""),
        ] {
            let error = at_address(text).unwrap_err();
            assert!(error.contains(hint), "{text:?}: {error}");
        }
    }
}
