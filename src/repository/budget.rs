//! A number of bytes that several threads share, so that memory stays bounded whatever size chunks have.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that may be held at a time.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: Mutex<usize>,
    returned: Condvar,
}

/// Bytes held until this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::new(0),
            returned: Condvar::new(),
        }
    }

    /// Waits until `bytes` fit, and holds them. More than the limit is held alone.
    pub fn take(budget: &Arc<Self>, bytes: usize) -> Held {
        let mut held = budget
            .returned
            .wait_while(budget.held(), |held| {
                *held > 0 && *held + bytes > budget.limit
            })
            .unwrap_or_else(PoisonError::into_inner);
        *held += bytes;
        drop(held);
        Held {
            budget: Arc::clone(budget),
            bytes,
        }
    }

    fn held(&self) -> MutexGuard<'_, usize> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.budget.held() -= self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_than_the_limit_is_held_and_everybody_gets_a_turn() {
        let budget = Arc::new(Budget::new(100));
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for bytes in [30, 40, 60, 100, 250] {
                let (budget, now, most) = (&budget, &now, &most);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let held = Budget::take(budget, bytes);
                        let sum = now.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(
                            if sum > 100 && sum == bytes { 0 } else { sum },
                            Ordering::SeqCst,
                        );
                        now.fetch_sub(bytes, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 100);
        assert_eq!(*budget.held(), 0);
    }
}
