"""What this machine itself takes for the work that our promises need: a floor for each row."""

import json
import os
import statistics

import data
import measure


def measured(root, scratch, kind, kept, aside):
    """The limits of one kind of data, from `benches/limits`."""
    room = os.path.join(aside, f"limits-{kind.name}")
    os.makedirs(room)
    words = ["--database", os.path.join(kept, "shop.db")] if kind is data.Database else ["--files", kept]
    return json.loads(measure.cargo_bench(root, "limits", [*words, "--scratch", room]))


class Work:
    """Seconds of all cores together for so many bytes of each kind of work, and the words for them."""

    def __init__(self, found):
        self.found = found
        self.seconds = 0.0
        self.parts = []

    def add(self, words, seconds):
        """One part."""
        self.seconds += seconds
        self.parts.append(f"{words} {seconds:.2f}")

    def rate(self, words, count, *names):
        """Bytes that go through each of these."""
        self.add(words, sum(count / 1e6 / self.found[name]["machine"] for name in names))

    def reading(self, words, count, name="read_hot"):
        """Bytes that come from the page cache."""
        self.add(words, self.found[name]["wall"] * count / self.found[name]["bytes"])

    def __str__(self):
        return " + ".join(self.parts)


def writing(found, count):
    """Seconds until so many bytes are on the disk, by whichever way is quicker here."""
    ways = [found[name] for name in ("write_direct", "write_buffered") if found[name]]
    return min(way["wall"] * count / way["bytes"] for way in ways)


def objects(found):
    """A run that stores nothing new still has a lock and a snapshot."""
    return 2 * found["object"]["wall"]


def floor(found, **bounds):
    """The key, then whatever takes longest of what can be done beside each other."""
    key = found["key"]["wall"]
    named = {name: (bound.seconds, f"({bound})") if isinstance(bound, Work) else (bound, f"{bound:.2f}") for name, bound in bounds.items()}
    longest = max((seconds for seconds, _ in named.values()), default=0.0)
    words = "; ".join(f"{name} {text}" for name, (_, text) in named.items())
    formula = f"key {key:.2f}" + (f" + the longest of: {words}" if words else "")
    return {"seconds": key + longest, "formula": formula}


def floors(report):
    """By row, for data in the page cache: seconds below which nobody gets who keeps what we promise."""
    all_floors = {}
    rows = report["rows"].get("hot", {})
    for kind, rule in (("W1", database), ("W2", files)):
        full, day = (rows.get(f"{kind} {row}") for row in ("full", "after the day"))
        if kind in report["limits"] and full and day:
            first, grown = (statistics.median(one["growth"] for one in row["tillsafe"]) for row in (full, day))
            found, facts = report["limits"][kind], report["facts"][kind]
            all_floors[f"{kind} opening (deriving the key)"] = floor(found)
            for row, value in rule(found, facts["bytes"], facts["changed"], first, grown).items():
                all_floors[f"{kind} {row}"] = value
    return all_floors


def stored(work, plain, packed, pack, unpack):
    """What it takes to store so many bytes: each is hashed, compressed and sealed; opened again and unpacked before it is
    written; and its pack is hashed."""
    work.rate("hash of blobs", plain, "sha256")
    work.rate("zstd", plain, pack)
    work.rate("seal", packed, "aes256_ctr", "poly1305")
    work.rate("open again", packed, "aes256_ctr", "poly1305")
    work.rate("unpack again", plain, unpack)
    work.rate("hash of packs", packed, "sha256")


def checked(found, plain, packed, unpack):
    """What it takes to look through all that is stored."""
    work = Work(found)
    work.reading("read", packed)
    work.rate("hash of packs", packed, "sha256")
    work.rate("open", packed, "aes256_ctr", "poly1305")
    work.rate("unpack", plain, unpack)
    work.rate("hash of blobs", plain, "sha256")
    return work


def database(found, plain, changed, first, grown):
    """W1. Of each page there is a hash, too: that is how the next day knows what has changed. What is stored anew is checked by SQLite."""
    full, day = Work(found), Work(found)
    for work in (full, day):
        work.reading("read", plain)
        work.rate("hash of pages", plain, "sha256")
    stored(full, plain, first, "zstd_3", "zstd_back")
    # One thread of SQLite's, beside the others.
    full.add("quick_check", found["sqlite_quick_check"]["processor"] / found["cores"])
    stored(day, changed, grown, "zstd_3", "zstd_back")
    restore = Work(found)
    restore.reading("read packs", first + grown)
    restore.rate("open", first + grown, "aes256_ctr", "poly1305")
    restore.rate("unpack", plain + changed, "zstd_back")
    restore.rate("hash of blobs", plain + changed, "sha256")
    restore.reading("read back", plain)
    restore.rate("hash of pages", plain, "sha256")
    return {
        "full": floor(found, work=full, write=writing(found, first)),
        "unchanged": floor(found, objects=objects(found)),
        "after the day": floor(found, work=day, write=writing(found, grown)),
        "restore": floor(found, work=restore, write=writing(found, plain)),
        "check, all data read": floor(found, work=checked(found, plain + changed, first + grown, "zstd_back")),
    }


def files(found, plain, changed, first, grown):
    """W2. Its files are read, and made, one by one."""
    walk = found["files_walked"]["wall"]
    full, day, restore = Work(found), Work(found), Work(found)
    full.reading("open and read files", plain, "files_read")
    stored(full, plain, first, "zstd_noise", "zstd_noise_back")
    day.add("walk", walk)
    day.reading("open and read files", changed, "files_read")
    stored(day, changed, grown, "zstd_noise", "zstd_noise_back")
    restore.reading("read packs", first + grown)
    restore.rate("open", first + grown, "aes256_ctr", "poly1305")
    restore.rate("unpack", plain, "zstd_noise_back")
    restore.rate("hash of blobs", plain, "sha256")
    restore.add("make files", found["files_made"]["processor"] / found["cores"])
    restore.reading("read back", plain, "files_read")
    restore.rate("hash again", plain, "sha256")
    return {
        "full": floor(found, work=full, write=writing(found, first)),
        "unchanged": floor(found, walk=walk, objects=objects(found)),
        "after the day": floor(found, work=day, write=writing(found, grown)),
        "restore": floor(found, work=restore, make=found["files_made"]["wall"], write=writing(found, plain)),
        "check, all data read": floor(found, work=checked(found, plain + changed, first + grown, "zstd_noise_back")),
    }
