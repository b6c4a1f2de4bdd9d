//! What we wrote, through a mount of restic: snapshots as folders, for whatever program wants to read them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Restic, difficult_shop, each};
use crate::common::Place;
use crate::common::compare::{difference, is_database};
use crate::common::mount::unmount_at_last;
use crate::common::program::{Program, Started};
use crate::common::shop::count_orders;
use crate::common::tools::{find, not_in_this_kernel, skipped};

/// A mount that ends with the test, also by a panic.
struct Mounted {
    restic: Option<Started>,
    path: PathBuf,
}

impl Mounted {
    fn on(path: PathBuf, restic: &Restic) -> Self {
        fs::create_dir(&path).unwrap();
        let mut command = restic.command(&["mount", path.to_str().unwrap()]);
        // It looks for fusermount.
        command.env("PATH", "/usr/bin:/bin");
        let mut started = Started::of(&mut command);
        started.wait_until("the mount", || path.join("snapshots").exists());
        Self {
            restic: Some(started),
            path,
        }
    }

    /// Ends it as its user would, with ctrl-C.
    fn end(mut self) {
        let mut restic = self.restic.take().expect("it ends once");
        restic.signal(Signal::INT);
        let run = restic.finish();
        assert!(!self.path.join("snapshots").exists(), "{}", run.text());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(restic) = self.restic.take() {
            drop(restic);
            unmount_at_last(&self.path);
        }
    }
}

#[test]
fn restic_mounts_what_we_wrote() {
    const WHAT: &str = "restic's mount of what we wrote";
    if !Path::new("/dev/fuse").exists() {
        return not_in_this_kernel(WHAT, "no /dev/fuse");
    }
    if find("fusermount3").is_none() {
        return skipped(WHAT, "no fusermount3: `make tools` installs it");
    }
    each(|path| {
        let place = Place::new();
        let program = Program::with_cheap_repository(place.path());
        let restic = Restic::on(path, &program);
        let shop = difficult_shop(&place.join("shop"), &restic);
        let folder = shop.folder.to_str().unwrap();
        program.ok(&["backup", folder]);
        shop.sell(10);
        program.ok(&["backup", "--tag", "second", folder]);
        let mounted = Mounted::on(place.join("mount"), &restic);
        let names = |of: &str| fs::read_dir(mounted.path.join(of)).unwrap().count();
        // Two snapshots, and `latest`.
        assert_eq!(names("snapshots"), 3);
        assert_eq!(names("tags/second"), 2);
        let inner = folder.trim_start_matches('/');
        let copy = mounted.path.join("snapshots/latest").join(inner);
        // It takes a time of a part of a second before 1970 for one after it; and 0.14 shows no sticky bit.
        let is_other = |path: &Path| path.ends_with("old") || path.ends_with("sticky");
        let left_out = |path: &Path| is_database(path) || is_other(path);
        assert_eq!(difference(&shop.folder, &copy, &left_out), None);
        // A mount cannot be written, and SQLite wants to: what it holds is copied out first.
        let copied = place.join("copied.db");
        fs::copy(copy.join("shop.db"), &copied).unwrap();
        assert_eq!(count_orders(&copied), 310);
        let manifest = mounted
            .path
            .join("snapshots/latest/.tillsafe/manifest.json");
        assert!(fs::read_to_string(manifest).unwrap().contains("shop.db"));
        // Beside the mount, which holds a lock, life goes on.
        program.ok(&["check", "--read-data"]);
        program.ok(&["backup", folder]);
        mounted.end();
        assert!(!program.has_lock());
    });
}
