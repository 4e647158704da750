//! The measurement. Each round runs every workload, and each workload runs against every server in turn. So
//! other load on the machine affects all servers alike.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::contenders::Contender;
use crate::failure::Result;
use crate::figures::Figures;
use crate::load::{self, Target};
use crate::results::Results;
use crate::server::Server;
use crate::usage::Meter;
use crate::workloads::Workload;

/// A server to be measured.
pub(crate) enum Subject {
    /// Is started for each run. The path is the folder of the built servers.
    Contender(&'static Contender, PathBuf),
    /// Is already running.
    Running(SocketAddr, Option<Meter>),
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Contender(contender, _) => contender.name.to_owned(),
            Self::Running(addr, _) => addr.to_string(),
        }
    }
}

/// Measures all of `subjects` at all of `workloads`, each run for `time` after a warm-up.
pub(crate) fn measure(
    subjects: &[Subject],
    workloads: &[Workload],
    rounds: usize,
    time: Duration,
) -> Results {
    let mut results = Results::new(subjects.iter().map(Subject::name).collect(), workloads);
    let runs = rounds * workloads.len() * subjects.len();
    let progress =
        ProgressBar::new(runs as u64).with_style(style("{pos}/{len} {wide_bar} {msg}, {eta} left"));
    for _ in 0..rounds {
        for measured in &mut results.workloads {
            for (subject, cell) in subjects.iter().zip(&mut measured.cells) {
                progress.set_message(format!("{}: {}", subject.name(), measured.workload));
                // A server that failed once is not run again, because each failure may cost a long timeout.
                if cell.failure().is_none() {
                    cell.add(run(subject, measured.workload, time));
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    results
}

fn run(subject: &Subject, workload: Workload, time: Duration) -> Result<Figures> {
    let target = |addr, meter| Target {
        addr,
        meter,
        warm_up: time / 4,
        time,
    };
    match subject {
        Subject::Running(addr, meter) => load::run(workload, &target(*addr, *meter)),
        Subject::Contender(contender, build_dir) => {
            let mut server = Server::start(contender, build_dir)?;
            let result = load::run(workload, &target(server.addr, Some(server.meter())));
            result.map_err(|failure| server.explain(failure))
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
