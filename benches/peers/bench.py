"""The pieces of work, each with every tool in every run."""

import copy
import os
import shutil
import sys

import data
import limits
import measure
import tools

MIB = 1024 * 1024
# What counts as a shop's day, from a database of so many MiB on: a small one has hot pages in proportion.
COUNTS_FROM_MIB, SHARE, LEAST_RUNS, SMALLER = 1024, (0.13, 0.15), 20_000, (3.0, 3.2)


def room(options, tools_here):
    """About the most bytes that lie on the disk at a time: what was restored is emptied once it is compared."""
    size, wanted = options.size_mib * MIB, options.only
    needs = [0.0]
    if wanted in "W1":
        # A day costs the others a third of the database each.
        month = options.days * (0.33 * (tools_here - 1) + 0.1)
        needs.append(4 + 0.7 * tools_here + month)
    if wanted in "W2":
        needs.append(1.6 * (4 + tools_here))
    if wanted == "peak":
        needs.append(2.2 + 0.5 * tools_here)
    return int(size * max(needs)) + 512 * MIB


class Bench:
    """All figures of one run of the suite."""

    def __init__(self, options, scratch, root):
        self.options = options
        self.scratch = scratch
        self.root = root
        self.tools = tools.found(root, scratch, options.tools)
        # By whether the page cache holds what is read, by row, by tool: one entry a run.
        self.heats = {"no": ["hot"], "only": ["cold"], "both": ["hot", "cold"]}[options.cold]
        self.heat = self.heats[0]
        self.rows = {heat: {} for heat in self.heats}
        self.facts = {}
        self.limits = {}

    def everything(self):
        """All work that is wanted."""
        wanted = self.options.only
        if wanted == "peak":
            self.peak()
            return
        for kind in (data.Database, data.Files):
            if wanted in kind.name:
                self.work(kind)
        if wanted in "W3":
            self.scale()

    def begin(self, heat):
        """From here on it is hot or cold. The memory is taken once more: whoever empties the cache gives it back."""
        self.heat = heat
        if heat == "hot":
            measure.fill_memory(self.scratch)

    def note(self, row, tool, cost, growth=None):
        """One measurement."""
        entry = self.rows[self.heat].setdefault(row, {}).setdefault(tool.name, [])
        entry.append({"wall": cost.wall, "processor": cost.processor, "peak": cost.peak, "growth": growth})
        print(f"  {tool.name}: {row} ({self.heat}): {cost.wall:.2f} s", file=sys.stderr)

    def time(self, tool, row, command):
        """Runs one command of a tool; of a command that not every tool has, nothing."""
        if not command:
            return
        measure.settle(self.heat == "cold", self.scratch)
        if self.heat == "hot":
            measure.warm(tool.repository, os.path.join(self.scratch, "shop"))
        before = data.size_of(tool.repository)
        cost = measure.run(command, tool.environment)
        self.note(row, tool, cost, data.size_of(tool.repository) - before)

    def turn(self, number):
        """The tools, another one first each time."""
        first = number % len(self.tools)
        return self.tools[first:] + self.tools[:first]

    def work(self, kind):
        """One kind of data: full, opening, unchanged, a day, restore, check; with each tool in each run."""
        folder, kept, aside = (os.path.join(self.scratch, name) for name in ("shop", "kept", "aside"))
        os.makedirs(aside)
        made = kind(folder, self.options.size_mib, self.options.seed)
        shutil.move(folder, kept)
        self.facts[kind.name] = {"bytes": data.size_of(kept)}
        for heat in self.heats:
            self.begin(heat)
            if self.options.limits and kind.name not in self.limits:
                self.measure_limits(kind, kept, aside)
            for number in range(self.options.runs):
                shutil.copytree(kept, folder)
                measure.rest()
                self.round(copy.deepcopy(made), number, folder, aside)
        if kind is data.Database and self.options.days:
            self.begin(self.heats[0])
            shutil.copytree(kept, folder)
            self.month(copy.deepcopy(made), folder, aside)
        # Only now: whoever makes files next would pay for those that are removed.
        shutil.rmtree(aside)
        shutil.rmtree(kept)

    def measure_limits(self, kind, kept, aside):
        """What the machine itself takes for the same data."""
        self.limits[kind.name] = limits.measured(self.root, self.scratch, kind, kept, aside)
        if kind is data.Database:
            smaller = self.limits[kind.name]["zstd_3_whole_ratio"]
            self.facts[kind.name]["smaller"] = smaller
            if self.options.size_mib >= COUNTS_FROM_MIB and not SMALLER[0] <= smaller <= SMALLER[1]:
                sys.exit(f"this is no shop's data: zstd -3 makes it {smaller:.2f} times smaller")

    def round(self, work, number, folder, aside):
        """Once with each tool."""
        turn, name = self.turn(number), work.name
        for tool in turn:
            tool.begin()
            measure.run(tool.create(), tool.environment)
            self.time(tool, f"{name} full", tool.backup(folder))
            # After it, so that the next one differs by nothing but its work.
            self.time(tool, f"{name} opening (deriving the key)", tool.opening())
            self.time(tool, f"{name} unchanged", tool.backup(folder))
        self.change(work)
        expected = data.content_of(folder)
        for tool in turn:
            self.time(tool, f"{name} after the day", tool.backup(folder))
            self.time(tool, f"{name} full proof", tool.proof())
            target = os.path.join(aside, f"{self.heat}-{number}-{tool.name}")
            self.restore(tool, f"{name} restore", folder, target, expected)
            self.time(tool, f"{name} check, all data read", tool.check())
            shutil.rmtree(tool.repository)
        gone = os.path.join(aside, f"{self.heat}-{number}-shop")
        shutil.move(folder, gone)
        data.empty(gone)

    def change(self, work):
        """A day; of a database it is said what it was like, and required to be a shop's."""
        facts = self.facts[work.name]
        if work.name != "W1":
            facts["changed"] = work.change()
            return
        before = work.pages()
        work.change()
        after = work.pages()
        pages = zip(before + [None] * (len(after) - len(before)), after)
        dirty = [old != new for old, new in pages]
        share = sum(dirty) / len(dirty)
        runs = sum(one and not other for one, other in zip(dirty, [False] + dirty))
        facts |= {"changed": sum(dirty) * data.PAGE, "share": share, "runs": runs, "touched": work.touched}
        is_shop = SHARE[0] <= share <= SHARE[1] and runs >= LEAST_RUNS
        if self.options.size_mib >= COUNTS_FROM_MIB and not is_shop:
            sys.exit(f"this is no shop's day: it dirties {share:.1%} of the pages in {runs} runs")

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
                measure.settle(False, self.scratch)
                spent[tool.name].append(measure.run(tool.backup(folder), tool.environment))
        expected = data.content_of(folder)
        for tool in self.tools:
            costs = spent[tool.name][1:]
            whole = measure.Cost(
                sum(cost.wall for cost in costs), sum(cost.processor for cost in costs), max(cost.peak for cost in costs)
            )
            self.note(f"month of {days} days, the repository in all", tool, whole, data.size_of(tool.repository))
            self.time(tool, f"month: full proof of day {days}", tool.proof())
            target = os.path.join(aside, f"month-{tool.name}")
            self.restore(tool, f"month: restore of day {days}", folder, target, expected)
            shutil.rmtree(tool.repository)
        shutil.rmtree(folder)

    def scale(self):
        """A hundred unchanged files, and a repository of very many blobs."""
        folder, made = (os.path.join(self.scratch, name) for name in ("few", "blobs"))
        words = ["--blobs", str(self.options.blobs), "--repository", made, "--password", tools.PASSWORD]
        measure.cargo_bench(self.root, "scale", words)
        os.makedirs(folder)
        for number in range(100):
            with open(os.path.join(folder, f"{number}.txt"), "w", encoding="ascii") as file:
                file.write(f"order {number}\n" * 100)
        measure.rest()
        # The format is restic's: borg has no such repository.
        able = [tool for tool in self.tools if not isinstance(tool, tools.Borg)]
        for tool in able:
            tool.begin()
            # Each has the same blobs under the same key; links, because nobody changes a pack.
            shutil.copytree(made, tool.repository, copy_function=os.link)
            measure.run(tool.backup(folder), tool.environment)
        for heat in self.heats:
            self.begin(heat)
            for number in range(self.options.runs):
                for tool in self.turn(number):
                    if tool in able:
                        self.time(tool, f"W3 unchanged, {self.options.blobs:,} blobs", tool.backup(folder))

    def peak(self):
        """A larger database, once: what it takes of memory."""
        folder = os.path.join(self.scratch, "shop")
        work = data.Database(folder, min(self.options.size_mib, 256), self.options.seed)
        work.grow(self.options.size_mib * MIB)
        self.facts["peak"] = {"bytes": data.size_of(folder)}
        measure.rest()
        for tool in self.tools:
            tool.begin()
            measure.run(tool.create(), tool.environment)
            self.time(tool, "peak full", tool.backup(folder))
        work.change()
        expected = data.content_of(folder)
        for tool in self.tools:
            self.time(tool, "peak after the day", tool.backup(folder))
            self.time(tool, "peak full proof", tool.proof())
            self.restore(tool, "peak restore", folder, os.path.join(self.scratch, f"target-{tool.name}"), expected)
            self.time(tool, "peak check, all data read", tool.check())

    def restore(self, tool, row, folder, target, expected):
        """The newest state, compared with its source."""
        if not measure.wait_for_inodes(os.path.dirname(target)):
            print("  files are slow to make here, for whatever reason", file=sys.stderr)
        self.time(tool, row, tool.restore(folder, target))
        if data.content_of(target) != expected:
            sys.exit(f"{tool.name} restored something else: {row}")
        data.empty(target)
