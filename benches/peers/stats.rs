//! Medians, and ratios of rates by round. Pure.

/// Returns the middle value, or the mean of the two middle values. Returns NaN if there are no values.
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

/// The ratios of two servers' rates, each within one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Ratio {
    /// Divides the rates of one server by those of another, round by round. Returns `None` if there is no
    /// round with both servers.
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
