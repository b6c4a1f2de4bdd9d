"""What the suite says of figures that are known: `python3 -m unittest discover benches/peers`."""

import argparse
import os
import signal
import sqlite3
import tempfile
import time
import unittest

import bench
import data
import limits
import measure
import table
import targets

RATE = {"core": 500.0, "machine": 1000.0}
GB = 10**9
NEAR = f"missed, within {targets.NEAR} × of the machine's limit"


def measured(*walls, growth=0, peak=100 * 2**20):
    """One tool's entries of a row."""
    return [{"wall": wall, "processor": wall, "peak": peak, "growth": growth} for wall in walls]


def took(wall, size=GB):
    """One of the machine's limits."""
    return {"bytes": size, "wall": wall, "processor": wall}


def report(rows, heat="hot"):
    """A report of these rows, on a machine where all is easily worked out."""
    names = ("sha256", "aes256_ctr", "poly1305", "zstd_3", "zstd_back", "zstd_noise", "zstd_noise_back")
    found = {name: RATE for name in names} | {
        "cores": 2, "key": {"wall": 0.1, "processor": 0.2}, "write_direct": took(2.0), "write_buffered": took(4.0),
        "read_hot": took(0.5), "files_walked": took(0.3), "files_read": took(0.5), "files_made": took(3.0) | {"processor": 4.0},
        "object": {"wall": 0.05, "processor": 0.0}, "sqlite_quick_check": {"wall": 0.2, "processor": 0.2}, "zstd_3_whole_ratio": 3.1, "zstd_3_pieces_ratio": 3.2,
    }
    facts = {"bytes": GB, "changed": GB // 10}
    whole = {
        "rows": {heat: rows}, "limits": {"W1": found, "W2": found}, "facts": {"W1": facts, "W2": facts},
        "machine": "here", "tools": ["tillsafe: 1", "restic: 2"], "options": {"command": "x", "runs": 1},
    }
    whole["floors"] = limits.floors(whole)
    whole["targets"] = targets.judged(whole)
    return whole


def verdict(whole, row):
    """What is said of one row."""
    return next(one["verdict"] for one in whole["targets"] if one["row"] == row)


class Judgement(unittest.TestCase):
    """Held, near the limit, missed."""

    def rows(self, full=9.0, size=300, restore=4.0, restic=10.0):
        return {
            "W1 full": {"tillsafe": measured(full, growth=size * 10**6), "restic": measured(restic, growth=300 * 10**6)},
            "W1 after the day": {"tillsafe": measured(1.0, growth=50 * 10**6), "restic": measured(4.0, growth=300 * 10**6)},
            "W1 restore": {"tillsafe": measured(restore), "restic": measured(5.0)},
        }

    def test_the_median_is_held_against_the_best_other(self):
        row = {"tillsafe": measured(1, 9, 2), "restic": measured(8), "rustic": measured(4)}
        self.assertEqual(targets.to_best(row), 0.5)
        self.assertIsNone(targets.to_best({"tillsafe": measured(1)}))
        self.assertIsNone(targets.to_best({"tillsafe": measured(1), "restic": measured(0)}))

    def test_a_first_backup_is_quick_or_small(self):
        cases = ((10.0, 306, "held"), (10.1, 306, "missed"), (9.0, 307, "missed"), (8.0, 324, "held"), (8.0, 325, "missed"))
        for wall, size, expected in cases:
            self.assertEqual(verdict(report(self.rows(full=wall, size=size)), "W1 full"), expected, (wall, size))

    def test_a_miss_near_the_limit_is_none(self):
        # Key, packs read, opened, unpacked and hashed, read back and hashed: longer than the 2.0 s of writing.
        whole = report(self.rows())
        self.assertAlmostEqual(whole["floors"]["W1 restore"]["seconds"], 0.1 + 0.175 + 0.7 + 1.1 + 1.1 + 0.5 + 1.0)
        for wall, expected in ((3.5, "held"), (6.07, NEAR), (6.09, "missed")):
            self.assertEqual(verdict(report(self.rows(restore=wall)), "W1 restore"), expected, wall)

    def test_no_limit_excuses_a_large_repository(self):
        # Slower than restic, but quick for this machine.
        for size, expected in ((320, NEAR), (330, "missed")):
            self.assertEqual(verdict(report(self.rows(full=7.0, size=size, restic=5.0)), "W1 full"), expected, size)

    def test_the_key_is_taken_off_each_tool_for_itself(self):
        rows = {
            "W1 opening (deriving the key)": {"tillsafe": measured(0.1, 0.2), "restic": measured(0.4, 0.5)},
            "W1 unchanged": {"tillsafe": measured(0.3, 0.5), "restic": measured(0.9, 1.5)},
        }
        row = targets.without_key(rows)["W1 unchanged, without the key"]
        self.assertEqual([round(one["wall"], 3) for one in row["tillsafe"]], [0.2, 0.3])
        self.assertEqual([round(one["wall"], 3) for one in row["restic"]], [0.5, 1.0])
        self.assertIn("0.25 [0.20–0.30]", table.markdown(report(rows)))

    def test_memory_is_the_most_anywhere(self):
        for mib, expected in ((200, "held"), (201, "missed")):
            rows = self.rows()
            rows["W1 restore"]["tillsafe"] += measured(4.0, peak=mib * 2**20)
            self.assertEqual(verdict(report(rows), "peak memory (most: W1 restore)"), expected)

    def test_a_month_and_many_blobs(self):
        rows = {
            "month of 30 days, the repository in all": {"tillsafe": measured(9, growth=41), "restic": measured(9, growth=100)},
            "W3 unchanged, 3 blobs": {"tillsafe": measured(1, peak=26), "restic": measured(4, peak=100), "rustic": measured(1)},
        }
        whole = report(rows)
        self.assertEqual(verdict(whole, "month of 30 days, the repository in all"), "missed")
        self.assertEqual(verdict(whole, "W3 unchanged, 3 blobs: wall against restic"), "held")
        self.assertEqual(verdict(whole, "W3 unchanged, 3 blobs: memory against restic"), "missed")


class Floors(unittest.TestCase):
    """They are bounds of data that is in the page cache."""

    def test_the_longest_counts(self):
        found = report({})["limits"]["W1"]
        work = limits.Work(found)
        work.rate("hash", GB, "sha256")
        self.assertEqual(limits.floor(found, walk=0.2, work=work)["seconds"], 1.1)
        self.assertEqual(limits.floor(found, walk=2.0, work=work)["seconds"], 2.1)
        self.assertEqual(limits.writing(found, GB // 2), 1.0)
        self.assertEqual(limits.writing(found | {"write_direct": None}, GB // 2), 2.0)

    def test_a_cold_run_has_none(self):
        rows = {"W2 full": {"tillsafe": measured(3)}, "W2 after the day": {"tillsafe": measured(1)}}
        self.assertEqual(report(rows, "cold")["floors"], {})
        self.assertIn("W2 restore", report(rows)["floors"])


class Measure(unittest.TestCase):
    """Commands of others."""

    def test_what_fails_is_no_figure(self):
        with self.assertRaises(measure.Failed):
            measure.to_its_end(["false"])

    def test_whoever_stops_the_suite_stops_what_it_runs(self):
        def stop(*_):
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, stop)
        with tempfile.TemporaryDirectory() as folder:
            told = os.path.join(folder, "child")
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with self.assertRaises(KeyboardInterrupt):
                measure.to_its_end(["sh", "-c", f"sleep 60 & echo $! >{told}; wait"])
            signal.signal(signal.SIGALRM, before)
            with open(told, encoding="ascii") as file:
                child = int(file.read())
        # The kernel may need a moment to bury it.
        for _ in range(50):
            if not lives(child):
                return
            time.sleep(0.1)
        self.fail("it lives on")


def lives(process):
    """Whether a process is there, and no corpse that waits for its parent."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Room(unittest.TestCase):
    """What a run needs of the disk."""

    def test_a_month_needs_most(self):
        wanted = argparse.Namespace(size_mib=1024, days=30, only="")
        self.assertGreater(bench.room(wanted, 3), 20 * 2**30)
        wanted.days = 0
        self.assertLess(bench.room(wanted, 3), 13 * 2**30)
        wanted.only = "W3"
        self.assertLess(bench.room(wanted, 3), 2**30)

    def test_what_was_restored_gives_its_room_back(self):
        with tempfile.TemporaryDirectory() as folder:
            inside, outside = os.path.join(folder, "a", "cup"), os.path.join(folder, "pot")
            os.makedirs(os.path.dirname(inside))
            for path in (inside, outside):
                with open(path, "wb") as file:
                    file.write(b"tea")
            os.symlink(outside, os.path.join(folder, "a", "link"))
            data.empty(os.path.join(folder, "a"))
            self.assertEqual((os.path.getsize(inside), os.path.getsize(outside)), (0, 3))


class Data(unittest.TestCase):
    """What is made."""

    def test_a_larger_database_is_whole_and_has_a_day(self):
        with tempfile.TemporaryDirectory() as folder:
            work = data.Database(os.path.join(folder, "shop"), 1, 7)
            work.grow(6 * 2**20)
            self.assertGreater(os.path.getsize(work.path), 6 * 2**20)
            before = work.pages()
            work.change()
            self.assertNotEqual(work.pages(), before)
            connection = sqlite3.connect(work.path)
            self.assertEqual(connection.execute("PRAGMA integrity_check").fetchone()[0], "ok")
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone()[0], "wal")
            connection.close()

    def test_the_files_say_what_changed(self):
        with tempfile.TemporaryDirectory() as folder:
            work = data.Files(os.path.join(folder, "shop"), 8, 7)
            changed = work.change()
            self.assertGreater(changed, sum(os.path.getsize(path) for path in work.logs))


if __name__ == "__main__":
    unittest.main()
