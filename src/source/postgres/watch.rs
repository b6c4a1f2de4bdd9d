//! A signal ends what we wait for: a query of the server, a tool.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::monitor::Monitor;

/// How often we look whether a signal has come.
const LOOK: Duration = Duration::from_millis(100);

/// Does `work`; calls `stop` from another thread once a signal asks us to stop, until the work is done.
pub fn watched<T>(monitor: &dyn Monitor, stop: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (done, wait) = channel::<()>();
        let stop = &stop;
        scope.spawn(move || {
            while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if monitor.signal().is_some() {
                    stop();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}
