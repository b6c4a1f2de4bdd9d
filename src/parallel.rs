//! The same work on many things, on all cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Does `work` on every item, on as many threads as there are cores. Items are begun in order; after
/// the first error none is begun any more, and those at work end by themselves. A panic goes on here.
///
/// # Errors
/// The first that `work` returned.
pub fn for_each<T, E, W>(items: &[T], work: W) -> Result<(), E>
where
    T: Sync,
    E: Send,
    W: Fn(&T) -> Result<(), E> + Sync,
{
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let first = Mutex::new(None);
    let run = || {
        while !stopped.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            if let Err(cause) = work(item) {
                stopped.store(true, Ordering::Relaxed);
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(cause);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads.min(items.len()))
            .map(|_| scope.spawn(run))
            .collect();
        for handle in handles {
            if let Err(panic) = handle.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    match first.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(cause) => Err(cause),
        None => Ok(()),
    }
}

/// Locks what threads share. One that has panicked has left it whole, and its panic goes on elsewhere.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_item_has_its_turn_once() {
        let sum = AtomicU64::new(0);
        let items: Vec<u64> = (1..=1000).collect();
        let done: Result<(), ()> = for_each(&items, |item| {
            sum.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!((done, sum.into_inner()), (Ok(()), 500_500));
        assert_eq!(for_each(&[], |(): &()| Err(())), Ok(()));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let begun = AtomicUsize::new(0);
        let failed = for_each(&vec![0; 100_000], |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err("no")
        });
        assert_eq!(failed, Err("no"));
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        assert!(begun.into_inner() <= cores, "one a thread at most");
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_panic_goes_on_in_the_caller() {
        let _: Result<(), ()> = for_each(&[1, 2, 3], |item| {
            assert!(*item != 3, "the third");
            Ok(())
        });
    }
}
