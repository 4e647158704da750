//! The measurement: rounds, in each every work, at each every server in turn, so that what the
//! machine does meanwhile meets all of them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::Result;
use crate::figures::Figures;
use crate::load::{self, Target};
use crate::peers::Peer;
use crate::results::Results;
use crate::server::Server;
use crate::usage::Meter;
use crate::works::Work;

/// A server to be measured.
pub(crate) enum Subject {
    /// It is started for each run, by what is in this directory.
    Peer(&'static Peer, PathBuf),
    /// It runs.
    Running(SocketAddr, Option<Meter>),
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Peer(peer, _) => peer.name.to_owned(),
            Self::Running(addr, _) => addr.to_string(),
        }
    }
}

/// Measures all of `subjects` at all of `works`, each run for `time` after a warm-up.
pub(crate) fn measure(
    subjects: &[Subject],
    works: &[Work],
    rounds: usize,
    time: Duration,
) -> Results {
    let mut results = Results::new(subjects.iter().map(Subject::name).collect(), works);
    let runs = rounds * works.len() * subjects.len();
    let progress =
        ProgressBar::new(runs as u64).with_style(style("{pos}/{len} {wide_bar} {msg}, {eta} left"));
    for _ in 0..rounds {
        for at_work in &mut results.works {
            for (subject, cell) in subjects.iter().zip(&mut at_work.cells) {
                progress.set_message(format!("{}: {}", subject.name(), at_work.work));
                // Who can't do it needs the patience of one round only.
                if cell.failure().is_none() {
                    cell.add(run(subject, at_work.work, time));
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    results
}

fn run(subject: &Subject, work: Work, time: Duration) -> Result<Figures> {
    let target = |addr, meter| Target {
        addr,
        meter,
        warm_up: time / 4,
        time,
    };
    match subject {
        Subject::Running(addr, meter) => load::run(work, &target(*addr, *meter)),
        Subject::Peer(peer, workshop) => {
            let mut server = Server::start(peer, workshop)?;
            let result = load::run(work, &target(server.addr, Some(server.meter())));
            result.map_err(|failure| server.explain(failure))
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
