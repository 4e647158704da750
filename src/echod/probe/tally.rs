//! The results of probes: counts, times, and the failures by their text.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde_json::{Map, Value, json};

use super::failure::Failure;

/// Maximum number of different failures. Further ones are counted as "other failures".
const MAX_FAILURES: usize = 20;

/// The outcomes of the connections of one probe, or of all.
pub(super) struct Tally {
    right: u64,
    wrong: u64,
    lost: u64,
    connect: Times,
    echo: Times,
    failures: BTreeMap<String, u64>,
    /// The highest exit code of a failure, or 0.
    pub(super) exit_code: u8,
}

impl Tally {
    pub(super) fn new() -> Result<Self, CreationError> {
        Ok(Self {
            right: 0,
            wrong: 0,
            lost: 0,
            connect: Times::new()?,
            echo: Times::new()?,
            failures: BTreeMap::new(),
            exit_code: 0,
        })
    }

    pub(super) fn sent(&self) -> u64 {
        self.right + self.wrong + self.lost
    }

    /// Counts the failures among `outcomes`, and maps the successes with `count`.
    pub(super) fn successes<T, R>(
        &mut self,
        outcomes: Vec<Result<T, Failure>>,
        mut count: impl FnMut(&mut Self, T) -> R,
    ) -> Vec<R> {
        let mut successes = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Ok(success) => successes.push(count(self, success)),
                Err(failure) => self.count_failure(&failure),
            }
        }
        successes
    }

    pub(super) fn count_connect(&mut self, took: Duration) {
        self.connect.record(took);
    }

    pub(super) fn count_echo(&mut self, took: Duration) {
        self.right += 1;
        self.echo.record(took);
    }

    fn count_failure(&mut self, failure: &Failure) {
        if failure.is_wrong_echo() {
            self.wrong += 1;
        } else {
            self.lost += 1;
        }
        self.exit_code = self.exit_code.max(failure.exit_code());
        self.count_alike(failure.to_string(), 1);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.connect.add(&other.connect);
        self.echo.add(&other.echo);
        self.exit_code = self.exit_code.max(other.exit_code);
        for (text, &count) in &other.failures {
            self.count_alike(text.clone(), count);
        }
    }

    /// Adds `count` to the failures with this text.
    fn count_alike(&mut self, text: String, count: u64) {
        let is_known = self.failures.contains_key(&text);
        let text = if is_known || self.failures.len() < MAX_FAILURES {
            text
        } else {
            "other failures".to_owned()
        };
        *self.failures.entry(text).or_default() += count;
    }

    /// Returns the failures, each with the number of its connections.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, u64)> {
        self.failures.iter().map(|(text, &count)| (&**text, count))
    }

    /// Returns the times with their names.
    pub(super) fn times(&self) -> [(&'static str, &Times); 2] {
        [("connect", &self.connect), ("echo", &self.echo)]
    }

    pub(super) fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("sent".into(), json!(self.sent()));
        fields.insert("right".into(), json!(self.right));
        fields.insert("wrong".into(), json!(self.wrong));
        fields.insert("lost".into(), json!(self.lost));
        for (name, times) in self.times() {
            fields.insert(name.into(), times.fields());
        }
        fields.insert("failures".into(), json!(self.failures));
        fields
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            right, wrong, lost, ..
        } = self;
        let sent = self.sent();
        write!(f, "{sent} sent, {right} right, {wrong} wrong, {lost} lost")
    }
}

/// A histogram of times.
pub(super) struct Times(Histogram<u64>);

impl Times {
    /// Makes a histogram with a precision of three digits.
    fn new() -> Result<Self, CreationError> {
        Histogram::new(3).map(Self)
    }

    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // It fails only for a histogram with a fixed maximum.
        let _ = self.0.record(nanos);
    }

    fn add(&mut self, other: &Self) {
        // It fails only for a histogram with a fixed maximum.
        let _ = self.0.add(&other.0);
    }

    /// Returns the minimum, the median, the 99th percentile and the maximum, or `None` without times.
    pub(super) fn quantiles(&self) -> Option<[(&'static str, Duration); 4]> {
        let at = |quantile| Duration::from_nanos(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| {
            [
                ("least", Duration::from_nanos(self.0.min())),
                ("median", at(0.5)),
                ("p99", at(0.99)),
                ("most", Duration::from_nanos(self.0.max())),
            ]
        })
    }

    /// Returns the quantiles in seconds, or null without times.
    fn fields(&self) -> Value {
        self.quantiles().map_or(Value::Null, |quantiles| {
            quantiles
                .into_iter()
                .map(|(name, time)| (name.to_owned(), json!(time.as_secs_f64())))
                .collect::<Map<_, _>>()
                .into()
        })
    }
}
