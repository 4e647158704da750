//! The list of metrics: their names, their help texts, and where their values come from.
//!
//! Names follow the conventions of Prometheus: a prefix, base units, and `_total` for counters. The encoder
//! appends `_total`.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet,
};
use prometheus_client::metrics::MetricType::{self, Counter, Gauge, Info};
use prometheus_client::registry::Unit;
use socketserver::{CloseReason, Resource, ServerStatus, Stage, TcpServer};

use crate::logging;
use crate::run::Handles;

type Label = (&'static str, String);

/// The values of a metric. Several values have a label each.
type Values = Vec<(Option<Label>, u64)>;

/// A metric that every service has.
struct ServiceMetric {
    kind: MetricType,
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    values: fn(&ServerStatus) -> Values,
}

const SERVICE_METRICS: &[ServiceMetric] = &[
    ServiceMetric {
        kind: Gauge,
        name: "echod_connections",
        unit: None,
        help: "Live connections by state: in a handler with its thread, in a reactor without a thread, \
               or closing.",
        values: |status| {
            let stages = [Stage::Handler, Stage::Reactor, Stage::Closing];
            by("state", stages, |stage| status.live_in(stage) as u64)
        },
    },
    ServiceMetric {
        kind: Gauge,
        name: "echod_max_connections",
        unit: None,
        help: "Maximum simultaneous connections.",
        values: |status| one(status.max_connections()),
    },
    ServiceMetric {
        kind: Gauge,
        name: "echod_max_connections_per_source",
        unit: None,
        help: "Maximum simultaneous connections from one IPv4 address or IPv6 /64, if limited.",
        values: |status| status.max_per_source().map_or_else(Vec::new, one),
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_connections_accepted",
        unit: None,
        help: "Connections accepted to be served.",
        values: |status| count(status.totals().connections()),
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_connections_rejected",
        unit: None,
        help: "Connections accepted only to be closed, by the limit that was reached.",
        values: |status| {
            let totals = status.totals();
            let per_source = totals.rejected_per_source();
            by("cause", ["max_connections", "max_per_source"], |cause| {
                if cause == "max_per_source" {
                    per_source
                } else {
                    totals.rejected() - per_source
                }
            })
        },
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_connections_closed",
        unit: None,
        help: "Connections that have ended, by the reason in the log.",
        values: |status| {
            let reasons = CloseReason::all().filter(|reason| *reason != CloseReason::Limit);
            by("reason", reasons, |reason| {
                status.totals().closed_by(reason)
            })
        },
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_connections_aborted",
        unit: None,
        help: "Connections that echod reset before the client had everything, for example at a stop.",
        values: |status| count(status.totals().aborted()),
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_received",
        unit: Some(Unit::Bytes),
        help: "Bytes received, including those of live connections.",
        values: |status| count(status.totals().bytes_in()),
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_sent",
        unit: Some(Unit::Bytes),
        help: "Bytes handed to the kernel to be sent, including those of live connections.",
        values: |status| count(status.totals().bytes_out()),
    },
    ServiceMetric {
        kind: Gauge,
        name: "echod_threads",
        unit: None,
        help: "Threads for handlers, including idle ones.",
        values: |status| one(status.threads()),
    },
    ServiceMetric {
        kind: Gauge,
        name: "echod_reactors",
        unit: None,
        help: "Running event loops, each on a thread of its own.",
        values: |status| one(status.reactors()),
    },
    ServiceMetric {
        kind: Counter,
        name: "echod_shortages",
        unit: None,
        help: "Pauses of accepting, 5 ms to 1 s each, by the resource that ran out. New clients wait \
               meanwhile.",
        values: |status| {
            let resources = [
                Resource::Descriptors,
                Resource::Memory,
                Resource::Threads,
                Resource::Other,
            ];
            by("resource", resources, |resource| {
                status.totals().shortages(resource)
            })
        },
    },
];

fn one(value: usize) -> Values {
    count(value as u64)
}

fn count(value: u64) -> Values {
    vec![(None, value)]
}

fn by<K: Copy + fmt::Display>(
    label: &'static str,
    keys: impl IntoIterator<Item = K>,
    value: impl Fn(K) -> u64,
) -> Values {
    let keys = keys.into_iter();
    keys.map(|key| (Some((label, key.to_string())), value(key)))
        .collect()
}

/// Every metric of this process.
#[derive(Debug)]
pub(super) struct List(Arc<Handles>);

impl List {
    pub(super) fn new(handles: &Arc<Handles>) -> Self {
        Self(Arc::clone(handles))
    }
}

impl Collector for List {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = Families(&mut encoder);
        let servers: Vec<_> = self
            .0
            .all()
            .iter()
            .map(|(service, server)| (service.to_string(), server.status()))
            .collect();
        for metric in SERVICE_METRICS {
            let samples = servers.iter().flat_map(|(service, status)| {
                (metric.values)(status).into_iter().map(|(label, value)| {
                    let service = ("service", service.clone());
                    ([service].into_iter().chain(label).collect(), value)
                })
            });
            let ServiceMetric {
                kind,
                name,
                ref unit,
                help,
                ..
            } = *metric;
            family.write(kind, name, unit.as_ref(), help, samples.collect())?;
        }
        family.one(
            Gauge,
            "echod_max_threads",
            None,
            "Maximum threads for handlers, of all services together.",
            TcpServer::max_threads() as u64,
        )?;
        family.one(
            Counter,
            "echod_log_lines_lost",
            None,
            "Log lines dropped because standard error was not read in time.",
            logging::lost_lines(),
        )?;
        family.build_info()?;
        let since = self.0.since().and_then(seconds);
        if let Some(since) = since {
            let help = "When the process began to listen, in seconds since 1970.";
            family.one(
                Gauge,
                "process_start_time",
                Some(&Unit::Seconds),
                help,
                since,
            )?;
        }
        family.process()
    }
}

/// Returns a time in seconds since 1970.
fn seconds(time: SystemTime) -> Option<f64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs_f64())
}

/// Writes metrics: for each a description, then its samples.
struct Families<'f, 'e>(&'f mut DescriptorEncoder<'e>);

impl Families<'_, '_> {
    fn write<V: EncodeCounterValue + EncodeGaugeValue>(
        &mut self,
        kind: MetricType,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        samples: Vec<(Vec<Label>, V)>,
    ) -> fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, value) in samples {
            let mut metric = family.encode_family(&labels)?;
            match kind {
                Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn one<V: EncodeCounterValue + EncodeGaugeValue>(
        &mut self,
        kind: MetricType,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        value: V,
    ) -> fmt::Result {
        self.write(kind, name, unit, help, vec![(Vec::new(), value)])
    }

    fn build_info(&mut self) -> fmt::Result {
        let help = "The version of echod.";
        let mut family = self.0.encode_descriptor("echod_build", help, None, Info)?;
        family.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])
    }

    /// Writes the metrics of a process that Prometheus' own clients have, under the same names. Leaves out
    /// those that can't be read.
    #[cfg(target_os = "linux")]
    fn process(&mut self) -> fmt::Result {
        use std::time::Duration;

        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else {
            return Ok(());
        };
        if let Ok(stat) = process.stat() {
            let milliseconds = (stat.utime + stat.stime) * 1000 / procfs::ticks_per_second();
            let cpu = Duration::from_millis(milliseconds).as_secs_f64();
            let help = "CPU time of user and system.";
            self.one(Counter, "process_cpu", Some(&Unit::Seconds), help, cpu)?;
            let bytes = Some(&Unit::Bytes);
            let help = "Virtual memory size.";
            self.one(Gauge, "process_virtual_memory", bytes, help, stat.vsize)?;
            let help = "Resident memory size.";
            let resident = stat.rss * procfs::page_size();
            self.one(Gauge, "process_resident_memory", bytes, help, resident)?;
            let help = "Threads of the process.";
            self.one(
                Gauge,
                "process_threads",
                None,
                help,
                stat.num_threads.unsigned_abs(),
            )?;
        }
        if let Ok(open) = process.fd_count() {
            let help = "Open file descriptors.";
            self.one(Gauge, "process_open_fds", None, help, open as u64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(max) = limits.max_open_files.soft_limit
        {
            let help = "Maximum open file descriptors.";
            self.one(Gauge, "process_max_fds", None, help, max)?;
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn process(&mut self) -> fmt::Result {
        Ok(())
    }
}
