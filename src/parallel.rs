//! The same work on many things, on all cores.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

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
    for_each_on(cores(), items, work)
}

/// The same where the work waits for a disk half of the time: on four threads a core, so that it has several questions at once.
///
/// # Errors
/// As [`for_each`].
pub fn for_each_waiting<T, E, W>(items: &[T], work: W) -> Result<(), E>
where
    T: Sync,
    E: Send,
    W: Fn(&T) -> Result<(), E> + Sync,
{
    for_each_on(4 * cores(), items, work)
}

/// How many threads can work at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn for_each_on<T, E, W>(threads: usize, items: &[T], work: W) -> Result<(), E>
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

/// The same work on one thing after the other, on all cores; what comes out comes in the order in which it went in.
#[derive(Debug)]
pub struct InOrder<T, R> {
    jobs: Option<Sender<(T, Sender<R>)>>,
    threads: Vec<JoinHandle<()>>,
    waiting: VecDeque<Receiver<R>>,
}

impl<T: Send + 'static, R: Send + 'static> InOrder<T, R> {
    /// Begins to do `work` on whatever is [pushed](Self::push).
    #[must_use]
    pub fn new(work: impl Fn(T) -> R + Clone + Send + 'static) -> Self {
        let cores = cores();
        let (jobs, queue) = bounded::<(T, Sender<R>)>(cores);
        let begin = |_| {
            let (queue, work) = (queue.clone(), work.clone());
            std::thread::spawn(move || {
                for (item, reply) in queue {
                    // Nobody waits for it where its owner has failed.
                    let _ = reply.send(work(item));
                }
            })
        };
        Self {
            threads: (0..cores).map(begin).collect(),
            jobs: Some(jobs),
            waiting: VecDeque::new(),
        }
    }

    /// Hands one in. Returns the oldest that is out, once there are more than the cores have in hand.
    pub fn push(&mut self, item: T) -> Option<R> {
        let (reply, result) = bounded(1);
        let jobs = self.jobs.as_ref();
        let is_sent = jobs.is_some_and(|jobs| jobs.send((item, reply)).is_ok());
        debug_assert!(is_sent, "threads listen as long as this lives");
        self.waiting.push_back(result);
        (self.waiting.len() > 2 * self.threads.len())
            .then(|| self.pop())
            .flatten()
    }

    /// The oldest that was not taken out yet; none if there is no more. A panic in the work goes on here.
    pub fn pop(&mut self) -> Option<R> {
        let oldest = self.waiting.pop_front()?;
        let Ok(result) = oldest.recv() else {
            self.jobs = None;
            for thread in self.threads.drain(..) {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            unreachable!("only a panic leaves work undone");
        };
        Some(result)
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
    fn what_went_in_first_comes_out_first() {
        let mut squares = InOrder::new(|number: u64| {
            // The first take longest.
            std::thread::sleep(std::time::Duration::from_micros(200 - number));
            number * number
        });
        let mut out: Vec<u64> = (0..200).filter_map(|number| squares.push(number)).collect();
        while let Some(square) = squares.pop() {
            out.push(square);
        }
        assert_eq!(
            out,
            (0..200).map(|number| number * number).collect::<Vec<_>>()
        );
    }

    #[test]
    #[should_panic(expected = "the third")]
    fn a_panic_in_order_goes_on_in_the_caller() {
        let mut numbers = InOrder::new(|number: u64| assert!(number != 3, "the third"));
        for number in 0..10 {
            numbers.push(number);
        }
        while numbers.pop().is_some() {}
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
