//! Prints the results of `echod probe`: as text, or as one JSON object a line.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::tally::Tally;
use crate::cli::commands::{Format, Probe};

/// Prints each probe when it ends, and the summary.
pub(super) struct Report {
    format: Format,
    /// Whether there is only one probe, of one connection. Such a probe needs no number and no summary.
    pub(super) is_single: bool,
    connections: usize,
    size: u64,
    probes: u64,
    pub(super) total: Tally,
}

impl Report {
    pub(super) fn new(options: &Probe, total: Tally) -> Self {
        Self {
            format: options.format,
            is_single: options.count == 1 && options.connections.get() == 1,
            connections: options.connections.get(),
            size: options.size.get(),
            probes: 0,
            total,
        }
    }

    /// Adds a finished probe to the total, and prints it. `addr` is the last address that accepted.
    pub(super) fn add(&mut self, probe: &Tally, addr: Option<SocketAddr>) -> io::Result<()> {
        self.probes += 1;
        self.total.add(probe);
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => {
                let mut fields = probe.fields();
                fields.insert("probe".into(), json!(self.probes));
                fields.insert("addr".into(), json!(addr));
                fields.insert("bytes".into(), json!(self.size));
                serde_json::to_writer(&mut out, &fields)?;
                writeln!(out)?;
            }
            Format::Text => {
                let text = self.text(probe, addr);
                if !self.is_single {
                    writeln!(out, "probe {}: {text}", self.probes)?;
                } else if probe.exit_code == 0 {
                    writeln!(out, "{text}")?;
                } else {
                    // Ignore a failure: standard error may be closed.
                    let _ = writeln!(io::stderr(), "echod: {text}");
                }
            }
        }
        out.flush()
    }

    fn text(&self, probe: &Tally, addr: Option<SocketAddr>) -> String {
        if self.connections > 1 {
            let failures = probe.failures();
            let failures = failures.map(|(failure, count)| format!("\n  {count} × {failure}"));
            let failures = failures.collect::<String>();
            return format!("{probe}{failures}");
        }
        if let Some((failure, _)) = probe.failures().next() {
            return failure.to_owned();
        }
        let times = probe.times().map(|(name, times)| {
            let [(_, time), ..] = times.quantiles().unwrap_or_default();
            format!("{name} {}", millis(time))
        });
        let addr = addr.map(|addr| addr.to_string()).unwrap_or_default();
        let size = self.size;
        format!("{addr} echoes {size} bytes: {}", times.join(", "))
    }

    /// Prints the summary, unless the line of the only probe has said everything.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.is_single {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match self.format {
            Format::Json => {
                let mut fields = self.total.fields();
                fields.insert("probes".into(), json!(self.probes));
                serde_json::to_writer(&mut out, &fields)?;
                writeln!(out)?;
            }
            Format::Text => {
                let (probes, plural) = (self.probes, if self.probes == 1 { "" } else { "s" });
                writeln!(out, "{probes} probe{plural}: {}", self.total)?;
                for (name, times) in self.total.times() {
                    let Some(quantiles) = times.quantiles() else {
                        continue;
                    };
                    let quantiles =
                        quantiles.map(|(quantile, time)| format!("{quantile} {}", millis(time)));
                    writeln!(out, "{name:8}{}", quantiles.join(", "))?;
                }
            }
        }
        out.flush()
    }
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
