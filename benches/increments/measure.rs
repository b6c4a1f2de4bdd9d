//! One way, measured: every evening stored, the newest restored and compared.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tillsafe::monitor::{Monitor, Quiet};
use tillsafe::repository::Repository;
use tillsafe::repository::snapshot::Snapshot;
use tillsafe::source::sqlite;

use crate::library::{self, Size};
use crate::ways::{Keeper, NAME, WAL_NAME, Way};
use crate::{Image, answer, image_id, pair, restic};

/// How long something took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seconds {
    /// On the clock.
    pub wall: f64,
    /// Of all processors, ours and those of programs that we ran: what a busy machine changes least.
    pub processor: f64,
}

/// What a way costs.
#[derive(Debug, Default)]
pub struct Figures {
    /// The repository after each evening.
    pub sizes: Vec<Size>,
    /// Bytes of JSON of the newest snapshot's trees; none where we cannot tell.
    pub tree_bytes: Option<u64>,
    /// Seconds of the first backup, once a run.
    pub full_seconds: Vec<Seconds>,
    /// Seconds of the later ones, each after a day.
    pub day_seconds: Vec<Seconds>,
    /// Seconds of the last one, after a quiet hour.
    pub hour_seconds: Vec<Seconds>,
    /// Seconds to restore and prove the newest state.
    pub restore_seconds: Vec<Seconds>,
    /// The same by stock restic, without a proof.
    pub restic_seconds: Vec<Seconds>,
}

/// Measures one of our ways.
pub fn way(way: Way, images: &[Image], runs: u64, scratch: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..runs {
        let folder = fresh(scratch, "repository")?;
        let repository = library::create(&folder)?;
        let mut keeper = Keeper::new(way);
        figures.sizes.clear();
        let mut newest = None;
        for image in images {
            let (snapshot, seconds) = at_work(image, scratch, |database| {
                timed(|| keeper.store(&repository, database))
            })?;
            figures.note(seconds, library::size(&repository, &folder)?, images.len());
            newest = Some(snapshot);
        }
        let (Some(snapshot), Some(image)) = (newest, images.last()) else {
            continue;
        };
        figures.tree_bytes = Some(library::tree_bytes(&repository, &snapshot)?);
        let target = fresh(scratch, "target")?;
        let ((), seconds) = timed(|| restore(way, &repository, &snapshot, scratch, &target))?;
        figures.restore_seconds.push(seconds);
        require_image(&target.join(NAME), image)?;
        if restic::is_here() {
            figures
                .restic_seconds
                .push(restore_by_restic(way, &folder, scratch, image)?);
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(figures)
}

impl Figures {
    /// Notes one of `all` backups of a run.
    fn note(&mut self, seconds: Seconds, size: Size, all: usize) {
        self.sizes.push(size);
        let number = self.sizes.len();
        let list = if number == 1 {
            &mut self.full_seconds
        } else if number < all {
            &mut self.day_seconds
        } else {
            &mut self.hour_seconds
        };
        list.push(seconds);
    }
}

/// Restores the newest state to one file that `SQLite` has checked.
fn restore(
    way: Way,
    repository: &Repository,
    snapshot: &Snapshot,
    scratch: &Path,
    target: &Path,
) -> Result<()> {
    library::restore(repository, snapshot, &base(way, scratch), target)?;
    if target.join(WAL_NAME).exists() {
        pair::fold(target)?;
        let monitor: Arc<dyn Monitor> = Arc::new(Quiet::default());
        sqlite::prove(&target.join(NAME), NAME, &monitor)?;
    }
    Ok(())
}

/// The folder of a snapshot in which the database lies: what the program stores keeps its full path.
fn base(way: Way, scratch: &Path) -> PathBuf {
    match way {
        Way::Fixed { .. } => scratch.join("live"),
        Way::Split { .. } | Way::Content | Way::Log { .. } => PathBuf::from("/"),
    }
}

fn restore_by_restic(way: Way, folder: &Path, scratch: &Path, image: &Image) -> Result<Seconds> {
    let target = fresh(scratch, "target")?;
    let ((), seconds) = timed(|| restic::restore(folder, &target))?;
    let base = base(way, scratch);
    let restored = target.join(base.strip_prefix("/")?);
    if restored.join(WAL_NAME).exists() {
        ensure!(
            pair::open(&restored)? == answer(image)?,
            "the pair gives other answers"
        );
    }
    require_image(&restored.join(NAME), image)?;
    Ok(seconds)
}

/// Measures restic itself on the same images.
pub fn restic(images: &[Image], runs: u64, scratch: &Path) -> Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..runs {
        let folder = fresh(scratch, "repository")?;
        restic::init(&folder)?;
        figures.sizes.clear();
        for image in images {
            let ((), seconds) = at_work(image, scratch, |database| {
                timed(|| restic::back_up(&folder, database))
            })?;
            let bytes = library::folder_bytes(&folder)?;
            let size = Size {
                bytes,
                ..Size::default()
            };
            figures.note(seconds, size, images.len());
        }
        if let Some(image) = images.last() {
            let target = fresh(scratch, "target")?;
            let ((), seconds) = timed(|| restic::restore(&folder, &target))?;
            figures.restic_seconds.push(seconds);
            let base = scratch.join("live");
            require_image(&target.join(base.strip_prefix("/")?).join(NAME), image)?;
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(figures)
}

/// Stores all evenings as base and log, restores the pair as it is, and tries mishaps on it.
pub fn mishaps(images: &[Image], scratch: &Path) -> Result<()> {
    let repository = library::create(&fresh(scratch, "repository")?)?;
    let mut keeper = Keeper::new(Way::Log {
        chunk_bytes: 256 << 10,
    });
    let mut newest = None;
    for image in images {
        newest = Some(at_work(image, scratch, |database| {
            keeper.store(&repository, database)
        })?);
    }
    if let (Some(snapshot), Some(image)) = (newest, images.last()) {
        let target = fresh(scratch, "target")?;
        library::restore(&repository, &snapshot, Path::new("/"), &target)?;
        pair::try_mishaps(&target, &scratch.join("mishap"), answer(image)?)?;
    }
    Ok(())
}

/// Lets `work` find the image under the path that the shop's database always has.
fn at_work<T>(image: &Image, scratch: &Path, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let live = fresh(scratch, "live")?;
    fs::create_dir(&live)?;
    let database = live.join(NAME);
    fs::rename(&image.path, &database)?;
    let result = work(&database);
    fs::rename(&database, &image.path)?;
    result
}

/// A path in `scratch` at which nothing is.
fn fresh(scratch: &Path, name: &str) -> Result<PathBuf> {
    let path = scratch.join(name);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    Ok(path)
}

fn require_image(path: &Path, image: &Image) -> Result<()> {
    ensure!(
        image_id(path)? == image.id,
        "what was restored is not what was stored"
    );
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Seconds)> {
    let (begun, before) = (Instant::now(), processor_seconds()?);
    let result = work()?;
    let seconds = Seconds {
        wall: begun.elapsed().as_secs_f64(),
        processor: processor_seconds()? - before,
    };
    Ok((result, seconds))
}

/// Seconds that this process and its ended children have computed so far.
fn processor_seconds() -> Result<f64> {
    /// Linux counts them in hundredths (proc(5), fields 14 to 17: utime, stime, cutime, cstime).
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, which may hold spaces.
    let (_, fields) = stat
        .rsplit_once(')')
        .context("an unknown form of /proc/self/stat")?;
    let times = fields.split_whitespace().skip(11).take(4);
    let ticks: u32 = times
        .map(str::parse::<u32>)
        .sum::<std::result::Result<_, _>>()?;
    Ok(f64::from(ticks) / TICKS)
}
