//! The results: for each workload and contender, the figures of every round, or the error.

use crate::failure::{Failure, Result};
use crate::figures::{Figure, Figures};
use crate::stats::{Ratio, median};
use crate::workloads::Workload;

/// The results of all workloads.
pub(crate) struct Results {
    /// The contenders' names. The others are compared with the first.
    pub(crate) contenders: Vec<String>,
    pub(crate) workloads: Vec<WorkloadResults>,
}

/// The results of one workload.
pub(crate) struct WorkloadResults {
    pub(crate) workload: Workload,
    /// In the order of the contenders.
    pub(crate) cells: Vec<Cell>,
}

/// The results of one contender at one workload.
#[derive(Default)]
pub(crate) struct Cell {
    rounds: Vec<Figures>,
    failure: Option<Failure>,
}

impl Results {
    pub(crate) fn new(contenders: Vec<String>, workloads: &[Workload]) -> Self {
        let results = |&workload| WorkloadResults {
            workload,
            cells: contenders.iter().map(|_| Cell::default()).collect(),
        };
        Self {
            workloads: workloads.iter().map(results).collect(),
            contenders,
        }
    }

    /// Returns the number of failed cells.
    pub(crate) fn failures(&self) -> usize {
        let cells = self.workloads.iter().flat_map(|measured| &measured.cells);
        cells.filter(|cell| cell.failure().is_some()).count()
    }

    /// Returns whether there are no figures at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.workloads
            .iter()
            .all(|measured| measured.figures().is_empty())
    }
}

impl WorkloadResults {
    /// Returns the kinds of figures of this workload. The rate comes first.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let round = self.cells.iter().find_map(|cell| cell.rounds().first());
        round
            .into_iter()
            .flatten()
            .map(|(figure, _)| *figure)
            .collect()
    }

    /// Compares the rates of two contenders.
    pub(crate) fn ratio(&self, ours: usize, theirs: usize) -> Option<Ratio> {
        Ratio::of(&self.cells[ours].rates(), &self.cells[theirs].rates())
    }
}

impl Cell {
    pub(crate) fn add(&mut self, result: Result<Figures>) {
        match result {
            Ok(figures) => self.rounds.push(figures),
            Err(failure) => self.failure = Some(failure),
        }
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Returns the median of a figure over the rounds.
    pub(crate) fn median(&self, figure: Figure) -> Option<f64> {
        let values = self.rounds().iter().flatten();
        let values = values.filter(|(name, _)| *name == figure);
        let values: Vec<_> = values.map(|(_, value)| *value).collect();
        (!values.is_empty()).then(|| median(&values))
    }

    fn rates(&self) -> Vec<f64> {
        let rates = self.rounds().iter().filter_map(|round| round.first());
        rates.map(|(_, rate)| *rate).collect()
    }

    /// Returns the figures of all rounds, or none if any round failed. The other rounds alone would flatter
    /// the contender.
    fn rounds(&self) -> &[Figures] {
        match self.failure {
            None => &self.rounds,
            Some(_) => &[],
        }
    }
}
