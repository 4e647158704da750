//! Chooses the text format of the metrics, and encodes them.

use mediatype::{MediaType, MediaTypeList, Name, ReadParams};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// `OpenMetrics`, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that an `Accept` header asks for (RFC 9110, section 12.5.1).
    ///
    /// That is `OpenMetrics` if the client names it and prefers no other format. A client that names neither
    /// format, such as a browser or `curl`, gets Prometheus' own.
    pub(super) fn of(accept: &str) -> Self {
        let (mut open_metrics, mut prometheus) = (0.0_f32, 0.0_f32);
        // Media types, their parameters' names, and the values that matter here ignore case.
        let accept = accept.to_ascii_lowercase();
        for range in MediaTypeList::new(&accept).flatten() {
            let version = parameter(&range, "version");
            let names = (range.ty.as_str(), range.subty.as_str());
            let wanted = match (names, version.as_deref()) {
                (("application", "openmetrics-text"), None | Some("1.0.0")) => &mut open_metrics,
                (("text", "plain"), None | Some("0.0.4")) | (("text" | "*", "*"), _) => {
                    &mut prometheus
                }
                _ => continue,
            };
            *wanted = wanted.max(quality(&range));
        }
        if open_metrics > 0.0 && open_metrics >= prometheus {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) fn text(self, metrics: &Registry) -> String {
        let mut text = String::new();
        // It fails only if the string or a collector fails, and neither does.
        let _ = match self {
            Self::Prometheus => prometheus_text::encode(&mut text, metrics),
            Self::OpenMetrics => text::encode(&mut text, metrics),
        };
        text
    }
}

/// Returns a parameter of a media range, without quotes.
fn parameter(range: &MediaType<'_>, name: &str) -> Option<String> {
    let value = range.get_param(Name::new(name)?)?;
    Some(value.unquoted_str().into_owned())
}

/// Returns the quality value of a media range: 1 by default, 0 if it is not a number.
fn quality(range: &MediaType<'_>) -> f32 {
    parameter(range, "q").map_or(1.0, |q| q.parse().unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            (
                "text/html,application/xhtml+xml,*/*;q=0.8",
                Format::Prometheus,
            ),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=2.0.0",
                Format::Prometheus,
            ),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            (
                "application/openmetrics-text;q=0.3,text/plain;q=0.5",
                Format::Prometheus,
            ),
            (",;,=,application/openmetrics-text,", Format::OpenMetrics),
            // Prometheus 2 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::of(accept), format, "{accept}");
        }
    }
}
