//! The keys and values. All connections share them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::resp::number;

/// The most memory that all entries may take. Redis calls it `maxmemory`.
const MAX_BYTES: usize = 64 << 20;

/// About how much memory an entry takes beside its key and value: its place in the table, two allocations.
const ENTRY_BYTES: usize = 128;

/// The error of a command that needs a number.
pub(crate) const NO_INTEGER: &str = "ERR value is not an integer or out of range";

#[derive(Default)]
pub(crate) struct Store(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// An `Arc` for each value, so that `get` does not copy the value while it holds the lock.
    values: HashMap<Vec<u8>, Arc<[u8]>>,
    bytes: usize,
}

impl Store {
    pub(crate) fn get(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.lock().values.get(key).cloned()
    }

    pub(crate) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let value = value.into();
        self.lock().set(key, value)
    }

    /// Adds to the number at this key, or to 0 if the key does not exist, and returns the sum.
    pub(crate) fn add(&self, key: &[u8], amount: i64) -> Result<i64, &'static str> {
        let mut entries = self.lock();
        let number = match entries.values.get(key) {
            None => 0_i64,
            Some(value) => number(value).ok_or(NO_INTEGER)?,
        };
        let sum = number
            .checked_add(amount)
            .ok_or("ERR increment or decrement would overflow")?;
        entries.set(key, sum.to_string().into_bytes().into())?;
        Ok(sum)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A thread that panicked can't have left an entry half-changed, so the poison is ignored.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn set(&mut self, key: &[u8], value: Arc<[u8]>) -> Result<(), &'static str> {
        let entry = |value: &Arc<[u8]>| key.len() + value.len() + ENTRY_BYTES;
        let place = self.values.get_mut(key);
        let bytes = self.bytes - place.as_deref().map_or(0, entry) + entry(&value);
        if bytes > MAX_BYTES {
            return Err("OOM command not allowed when used memory > 'maxmemory'.");
        }
        self.bytes = bytes;
        match place {
            Some(place) => *place = value,
            None => drop(self.values.insert(key.to_vec(), value)),
        }
        Ok(())
    }
}
