//! The entries of a reactor by index and generation, so that a late event of a connection can't hit
//! another connection that has the same place by then. Pure.

/// Names one entry, also in the events of `epoll(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[allow(clippy::cast_possible_truncation, reason = "each half is kept whole")]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self {
            index: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }

    fn index(self) -> usize {
        self.index as usize
    }
}

/// Gives out tokens to the threads that bring entries.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    free: Vec<Token>,
    next: u32,
}

impl Tokens {
    pub(super) fn acquire(&mut self) -> Token {
        self.free.pop().unwrap_or_else(|| {
            let index = self.next;
            self.next += 1;
            Token {
                index,
                generation: 0,
            }
        })
    }

    /// Takes a token back. The next entry in its place gets the next generation.
    pub(super) fn release(&mut self, token: Token) {
        self.free.push(Token {
            generation: token.generation.wrapping_add(1),
            ..token
        });
    }
}

/// The entries of one reactor.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<(u32, T)>>,
    len: usize,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self {
            places: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters `entry` under `token`, which must have been acquired for this entry.
    pub(super) fn insert(&mut self, token: Token, entry: T) {
        if self.places.len() <= token.index() {
            self.places.resize_with(token.index() + 1, || None);
        }
        self.places[token.index()] = Some((token.generation, entry));
        self.len += 1;
    }

    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        match self.places.get_mut(token.index()) {
            Some(Some((generation, entry))) if *generation == token.generation => Some(entry),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, token: Token) -> Option<T> {
        self.get_mut(token)?;
        self.len -= 1;
        self.places[token.index()].take().map(|(_, entry)| entry)
    }

    /// Returns the tokens of all entries.
    pub(super) fn tokens(&self) -> Vec<Token> {
        let token = |(index, place): (usize, &Option<(u32, T)>)| {
            let &(generation, _) = place.as_ref()?;
            let index = u32::try_from(index).ok()?;
            Some(Token { index, generation })
        };
        self.places.iter().enumerate().filter_map(token).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// For any order of inserts and removals, each token finds its own entry while the entry is
        /// there, and nothing afterwards.
        #[test]
        fn a_token_finds_its_own_entry_or_nothing(steps in vec(any::<(bool, u8)>(), 0..200)) {
            let mut tokens = Tokens::default();
            let mut slab = Slab::new();
            let mut live: Vec<(Token, usize)> = Vec::new();
            let mut gone: Vec<Token> = Vec::new();
            for (number, (inserts, which)) in steps.into_iter().enumerate() {
                if inserts || live.is_empty() {
                    let token = tokens.acquire();
                    slab.insert(token, number);
                    live.push((token, number));
                } else {
                    let (token, entry) = live.swap_remove(usize::from(which) % live.len());
                    prop_assert_eq!(slab.remove(token), Some(entry));
                    tokens.release(token);
                    gone.push(token);
                }
                for &(token, entry) in &live {
                    prop_assert_eq!(slab.get_mut(token).copied(), Some(entry));
                }
                for &token in &gone {
                    prop_assert!(slab.get_mut(token).is_none());
                }
                prop_assert_eq!(slab.tokens().len(), live.len());
                prop_assert_eq!(slab.is_empty(), live.is_empty());
            }
        }

        #[test]
        fn a_token_is_read_back_from_its_bits(bits in any::<u64>()) {
            prop_assert_eq!(Token::from_bits(bits).to_bits(), bits);
        }
    }
}
