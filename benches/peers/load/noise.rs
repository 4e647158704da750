//! The contents: one noise, at another place in it for each connection and message.

use fastrand::Rng;

/// How long the noise is before it repeats. A prime, so that messages of any length come to every
/// place in it, and what is lost or doubled shows unless it is a multiple of this; small enough to
/// stay in a processor's cache.
const PERIOD: usize = 65_521;

/// The longest piece of it that can be had at once.
pub(super) const LONGEST: usize = 256 << 10;

/// Bytes without a pattern, without end.
pub(super) struct Noise(Vec<u8>);

impl Noise {
    pub(super) fn new() -> Self {
        let mut period = vec![0; PERIOD];
        Rng::with_seed(862).fill(&mut period);
        Self(period.into_iter().cycle().take(PERIOD + LONGEST).collect())
    }

    /// Returns the `len` bytes at `position`, at most `LONGEST`.
    pub(super) fn at(&self, position: u64, len: usize) -> &[u8] {
        #[allow(clippy::cast_possible_truncation, reason = "less than the period")]
        let start = (position % PERIOD as u64) as usize;
        &self.0[start..start + len]
    }

    /// Returns where the stream of the connection with this number begins: not near another's.
    pub(super) fn start(number: usize) -> u64 {
        number as u64 * 25_057
    }
}
