//! Medians and ratios of rounds. Pure.

/// Returns the middle one, or the mean of the two in the middle; NaN of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How a server compares with another, by rounds: what both did in the same one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Ratio {
    /// Compares the rates of one server with those of another. There is none without a round that
    /// both were in.
    pub(crate) fn of(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let rounds = ours.iter().zip(theirs);
        let ratios: Vec<_> = rounds.map(|(ours, theirs)| ours / theirs).collect();
        let least = ratios.iter().copied().min_by(f64::total_cmp)?;
        let most = ratios.iter().copied().max_by(f64::total_cmp)?;
        Some(Self {
            median: median(&ratios),
            least,
            most,
        })
    }
}
