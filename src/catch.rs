//! Runs users' code, and stops a panic in that code from unwinding further.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `step`, and returns the message of a panic as the error.
pub(crate) fn catch<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    // A panic may leave the connection's own state half-changed. The connection is about to end, so
    // no code sees that state again.
    catch_unwind(AssertUnwindSafe(step)).map_err(|payload| {
        let message = message_of(&*payload);
        // Dropping the payload may panic too; then leak the second payload.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(again);
        }
        message
    })
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(catch(|| 7), Ok(7));
        assert_eq!(catch(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        assert_eq!(catch(|| panic!("{}", 1 + 1)), Err::<(), _>("2".to_owned()));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_goes_no_further() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        let message = catch(|| panic_any(Bomb)).unwrap_err();
        assert_eq!(message, "a value that is not text");
    }
}
