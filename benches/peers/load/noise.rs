//! The bytes that the client sends: one pseudo-random sequence. Each connection starts at another position.

use fastrand::Rng;

/// The length after which the sequence repeats, in bytes.
///
/// The length is a prime, so that messages of any length begin at every position in time. A server that
/// loses or repeats bytes is found out, unless their number is a multiple of this length. The sequence is
/// small enough to stay in a processor's cache.
const PERIOD: usize = 65_521;

/// The longest slice that `at` can return.
pub(super) const LONGEST: usize = 256 << 10;

/// An endless sequence of pseudo-random bytes.
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

    /// Returns the start position of the connection with this number. Positions are far apart.
    pub(super) fn start(number: usize) -> u64 {
        number as u64 * 25_057
    }
}
