//! The best of three.

use std::fs;
use std::num::NonZero;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// How often each piece of work is done.
const TIMES: usize = 3;

/// What a piece of work took.
#[derive(Debug, Clone, Copy)]
pub struct Seconds {
    /// On the clock.
    pub wall: f64,
    /// Of all processors.
    pub processor: f64,
}

impl Seconds {
    /// As it is printed, with the bytes that it was for.
    pub fn of_bytes(self, bytes: u64) -> Value {
        json!({"bytes": bytes, "wall": self.wall, "processor": self.processor})
    }

    /// As it is printed.
    pub fn alone(self) -> Value {
        json!({"wall": self.wall, "processor": self.processor})
    }
}

/// Does something three times; the shortest counts.
pub fn best(mut work: impl FnMut() -> Result<()>) -> Result<Seconds> {
    let mut best: Option<Seconds> = None;
    for _ in 0..TIMES {
        let (begun, before) = (Instant::now(), processor_seconds()?);
        work()?;
        let wall = begun.elapsed().as_secs_f64();
        let processor = processor_seconds()? - before;
        if best.is_none_or(|best| wall < best.wall) {
            best = Some(Seconds { wall, processor });
        }
    }
    best.context("nothing was measured")
}

/// How fast something goes through `bytes`, as one thread does it and as all cores do it at once, each for itself.
pub fn rate(bytes: u64, work: impl Fn() -> Result<()> + Sync) -> Result<Value> {
    let core = best(&work)?.wall;
    let machine = best(|| on_all_cores(|_| work()))?.wall;
    let millions = millions(bytes);
    let all = millions * f64::from(u32::try_from(cores())?);
    Ok(json!({"core": millions / core, "machine": all / machine}))
}

/// Lets each core do its part: it gets its number.
pub fn on_all_cores(work: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores())
            .map(|number| {
                let work = &work;
                scope.spawn(move || work(number))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread has panicked")))
        })
    })
}

/// Cores of this machine, as far as this process may use them.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nobody has so many bytes that it counts"
)]
fn millions(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Seconds that this process has computed so far.
fn processor_seconds() -> Result<f64> {
    /// Linux counts them in hundredths (proc(5), fields 14 and 15: utime, stime).
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, which may hold spaces.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("an unknown form of /proc/self/stat")?;
    let times = fields.split_whitespace().skip(11).take(2);
    let ticks: u32 = times
        .map(str::parse::<u32>)
        .sum::<std::result::Result<_, _>>()?;
    Ok(f64::from(ticks) / TICKS)
}
