//! What keeps a writer's packs back until it is sure that they may be written.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::parallel::lock;

/// A gate that is passed by everybody once it is open, and by nobody if it stays shut.
#[derive(Debug)]
pub struct Gate {
    opened: Mutex<Option<bool>>,
    decided: Condvar,
}

/// Who decides about a gate. Dropped without a word, it stays shut.
#[derive(Debug)]
pub struct Gatekeeper(Arc<Gate>);

impl Gate {
    /// One that is open from the beginning.
    #[must_use]
    pub fn open() -> Arc<Self> {
        Arc::new(Self {
            opened: Mutex::new(Some(true)),
            decided: Condvar::new(),
        })
    }

    /// One about which the other decides.
    #[must_use]
    pub fn kept() -> (Arc<Self>, Gatekeeper) {
        let gate = Arc::new(Self {
            opened: Mutex::default(),
            decided: Condvar::new(),
        });
        (Arc::clone(&gate), Gatekeeper(gate))
    }

    /// Waits for the decision: whether to go on.
    #[must_use]
    pub fn pass(&self) -> bool {
        let opened = self
            .decided
            .wait_while(lock(&self.opened), |opened| opened.is_none());
        *opened.unwrap_or_else(PoisonError::into_inner) == Some(true)
    }

    fn decide(&self, open: bool) {
        lock(&self.opened).get_or_insert(open);
        self.decided.notify_all();
    }
}

impl Gatekeeper {
    /// Lets all through.
    pub fn open(self) {
        self.0.decide(true);
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.0.decide(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_the_gate_is_open_and_never_if_its_keeper_is_gone() {
        assert!(Gate::open().pass());
        for open in [true, false] {
            let (gate, keeper) = Gate::kept();
            std::thread::scope(|scope| {
                let passing = scope.spawn(|| gate.pass());
                assert!(!passing.is_finished());
                if open {
                    keeper.open();
                } else {
                    drop(keeper);
                }
                assert_eq!(passing.join().unwrap(), open);
            });
            assert_eq!(gate.pass(), open);
        }
    }
}
