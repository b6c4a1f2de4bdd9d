"""tillsafe, restic, rustic and borg on the same work, in turn, in one run.

    python3 benches/peers --size-mib 1024 --runs 3 --seed 7 [--cold] [--only W1] [--json FILE] [--markdown FILE]

Each tool has a repository of its own; which one is first changes with each run. What is restored is compared with its
source by hash. Medians are printed, and how ours stands to the best of the others. No test: it asserts no time.
"""

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib

import data
import measure
import table
import tools

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MIB = 1024 * 1024


def arguments():
    """What to measure."""
    parser = argparse.ArgumentParser(prog="benches/peers", description=__doc__.split("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256, help="of the database; the files are as many in proportion")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--days", type=int, default=30, help="of trading, each backed up, once: what a month takes")
    parser.add_argument("--blobs", type=int, default=None, help="in the repository of W3; three million at 1024 MiB")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each command (as root)")
    parser.add_argument("--only", default="", help="work whose name holds this: W1, W2, W3")
    parser.add_argument("--folder", default=None, help="where to work; needs about twenty times the size")
    parser.add_argument("--json", default=None)
    parser.add_argument("--markdown", default=None)
    options = parser.parse_args()
    options.blobs = options.blobs or 3_000_000 * options.size_mib // 1024
    return options


class Bench:
    """All figures of one run of the suite."""

    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.tools = tools.found(ROOT, scratch)
        self.rows = {}
        self.facts = []

    def note(self, row, tool, cost, growth=None):
        """One measurement."""
        entry = self.rows.setdefault(row, {}).setdefault(tool.name, [])
        entry.append({"wall": cost.wall, "processor": cost.processor, "peak": cost.peak, "growth": growth})
        print(f"  {tool.name}: {row}: {cost.wall:.2f} s", file=sys.stderr)

    def time(self, tool, row, command):
        """Runs one command of a tool."""
        measure.settle(self.options.cold)
        before = data.size_of(tool.repository)
        cost = measure.run(command, tool.environment)
        self.note(row, tool, cost, data.size_of(tool.repository) - before)

    def work(self, kind):
        """One kind of data: full, unchanged, a day, restore, check; with each tool in each run."""
        folder, kept, aside = (os.path.join(self.scratch, name) for name in ("shop", "kept", "aside"))
        os.makedirs(aside)
        made = kind(folder, self.options.size_mib, self.options.seed)
        shutil.move(folder, kept)
        for number in range(self.options.runs):
            shutil.copytree(kept, folder)
            measure.rest()
            work = copy.deepcopy(made)
            turn = self.tools[number % len(self.tools):] + self.tools[: number % len(self.tools)]
            for tool in turn:
                tool.begin()
                measure.run(tool.create(), tool.environment)
                self.time_if(tool, f"{kind.name} opening (deriving the key)", tool.opening())
                self.time(tool, f"{kind.name} full", tool.backup(folder))
                self.time(tool, f"{kind.name} unchanged", tool.backup(folder))
            before = work.pages() if kind is data.Database else None
            work.change()
            if before:
                self.require_shop(work, before)
            expected = data.content_of(folder)
            for tool in turn:
                self.time(tool, f"{kind.name} after the day", tool.backup(folder))
                self.time_if(tool, f"{kind.name} full proof", tool.proof())
                self.restore(tool, f"{kind.name} restore", folder, os.path.join(aside, f"target-{number}-{tool.name}"), expected)
                self.time(tool, f"{kind.name} check, all data read", tool.check())
                shutil.rmtree(tool.repository)
            shutil.move(folder, os.path.join(aside, f"shop-{number}"))
        if kind is data.Database and self.options.days:
            shutil.copytree(kept, folder)
            self.month(copy.deepcopy(made), folder, aside)
        # Only now: whoever makes files next would pay for those that are removed.
        shutil.rmtree(aside)
        shutil.rmtree(kept)

    def month(self, work, folder, aside):
        """A day of trading after the other; then what all of it takes, and the last one restored."""
        days = self.options.days
        for tool in self.tools:
            tool.begin()
            measure.run(tool.create(), tool.environment)
        spent = {tool.name: [] for tool in self.tools}
        for day in range(days + 1):
            if day:
                work.change()
            for tool in self.tools:
                measure.settle(False)
                spent[tool.name].append(measure.run(tool.backup(folder), tool.environment))
        expected = data.content_of(folder)
        for tool in self.tools:
            costs = spent[tool.name][1:]
            whole = measure.Cost(
                sum(cost.wall for cost in costs), sum(cost.processor for cost in costs), max(cost.peak for cost in costs)
            )
            self.note(f"W1 {days} such days, the repository in all", tool, whole, data.size_of(tool.repository))
            self.time_if(tool, f"W1 full proof of day {days}", tool.proof())
            self.restore(tool, f"W1 restore of day {days}", folder, os.path.join(aside, f"month-{tool.name}"), expected)
            shutil.rmtree(tool.repository)

    def time_if(self, tool, row, command):
        """The same of a command that not every tool has."""
        if command:
            self.time(tool, row, command)

    def scale(self):
        """A hundred unchanged files, and a repository of very many blobs."""
        folder, made = (os.path.join(self.scratch, name) for name in ("few", "blobs"))
        words = ["--blobs", str(self.options.blobs), "--repository", made, "--password", tools.PASSWORD]
        subprocess.run(["cargo", "bench", "-q", "--locked", "--bench", "scale", "--", *words], cwd=ROOT, check=True)
        os.makedirs(folder)
        for number in range(100):
            with open(os.path.join(folder, f"{number}.txt"), "w", encoding="ascii") as file:
                file.write(f"order {number}\n" * 100)
        measure.rest()
        for tool in self.tools:
            if isinstance(tool, tools.Borg):
                continue
            tool.begin()
            # Each has the same blobs under the same key; links, because nobody changes a pack.
            shutil.copytree(made, tool.repository, copy_function=os.link)
            measure.run(tool.backup(folder), tool.environment)
        for number in range(self.options.runs):
            for tool in self.tools[number % len(self.tools):] + self.tools[: number % len(self.tools)]:
                if not isinstance(tool, tools.Borg):
                    self.time(tool, f"W3 unchanged, {self.options.blobs:,} blobs", tool.backup(folder))

    def restore(self, tool, row, folder, target, expected):
        """The newest state, compared with its source."""
        if not measure.wait_for_inodes(os.path.dirname(target)):
            print("  files are slow to make here, for whatever reason", file=sys.stderr)
        self.time(tool, row, tool.restore(folder, target))
        found = data.content_of(target)
        if found != expected:
            sys.exit(f"{tool.name} restored something else to {target}")

    def require_shop(self, work, before):
        """The figures count only if the database is like a shop's. A small one has hot pages in proportion."""
        after = work.pages()
        pages = zip(before + [None] * (len(after) - len(before)), after)
        dirty = [old != new for old, new in pages]
        share = sum(dirty) / len(dirty)
        runs = sum(one and not other for one, other in zip(dirty, [False] + dirty))
        ratio = compressed(work.path)
        fact = (
            f"{len(after) * data.PAGE / MIB:.0f} MiB, the day dirties {share:.1%} of its pages in {runs} runs, "
            f"{work.touched} rows touched, zlib -1 makes it {ratio:.2f} times smaller"
        )
        print(f"  {fact}", file=sys.stderr)
        self.facts.append(fact)
        if self.options.size_mib >= 1024 and not (0.12 <= share <= 0.15 and runs >= 20_000 and 3 <= ratio <= 3.5):
            sys.exit(f"this is no shop's day: {fact}")


def compressed(path):
    """How many times smaller samples of a file become: one MiB in sixteen."""
    whole = small = 0
    with open(path, "rb") as file:
        for start in range(0, os.path.getsize(path), 16 * MIB):
            file.seek(start)
            sample = file.read(MIB)
            whole += len(sample)
            small += len(zlib.compress(sample, 1))
    return whole / small


def main():
    """The whole suite."""
    options = arguments()
    if options.cold and not measure.can_be_cold():
        sys.exit("--cold: only root can empty the page cache")
    with tempfile.TemporaryDirectory(prefix="tillsafe-bench-", dir=options.folder) as scratch:
        if not options.cold:
            measure.fill_memory(scratch)
        bench = Bench(options, scratch)
        names = [f"{tool.name}: {tool.version()}" for tool in bench.tools]
        if not names or not names[0].startswith("tillsafe"):
            sys.exit("there is no target/release/tillsafe: run `cargo build --release` first")
        for kind in (data.Database, data.Files):
            if options.only in kind.name:
                bench.work(kind)
        if options.only in "W3":
            bench.scale()
    words = vars(options) | {"command": " ".join(["python3", "benches/peers", *sys.argv[1:]])}
    report = {"tools": names, "machine": table.machine(), "options": words, "shop": bench.facts, "rows": bench.rows}
    text = table.markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1) + "\n"), (options.markdown, text + "\n")):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)


main()
