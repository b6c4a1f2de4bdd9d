"""tillsafe, restic, rustic and borg on the same work, in turn, in one run, and what this machine cannot do faster.

    python3 benches/peers --size-mib 1024 --runs 3 --seed 7 [--cold [both]] [--only W1] [--json FILE] [--markdown FILE]

Each tool has a repository of its own; which one is first changes with each run. What is restored is compared with its
source by hash. Medians are printed, how ours stands to the best of the others, and the targets beside them. No test: it
asserts no time.
"""

import argparse
import json
import os
import signal
import sys
import tempfile

import bench
import limits
import measure
import table
import targets

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def arguments():
    """What to measure."""
    parser = argparse.ArgumentParser(prog="benches/peers", description=__doc__.split("\n")[0])
    parser.add_argument("--size-mib", type=int, default=256, help="of the database; the files are as many in proportion")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--days", type=int, default=30, help="of trading, each backed up, once: what a month takes")
    parser.add_argument("--blobs", type=int, default=None, help="in the repository of W3; three million at 1024 MiB")
    parser.add_argument(
        "--cold", nargs="?", const="only", choices=("only", "both"), default="no",
        help="empty the page cache before each command (as root); both: the same with all in it first",
    )
    parser.add_argument("--only", default="", help="work whose name holds this: W1, W2, W3; or peak: a larger database, for memory")
    parser.add_argument("--compression", default="auto", help="of ours: auto or fast; the others keep their default")
    parser.add_argument("--tools", default="", help="only these, with commas between them, and ours")
    parser.add_argument("--no-limits", dest="limits", action="store_false", help="leave out what the machine itself takes")
    parser.add_argument("--folder", default=None, help="where to work")
    parser.add_argument("--json", default=None)
    parser.add_argument("--markdown", default=None)
    options = parser.parse_args()
    options.blobs = options.blobs or 3_000_000 * options.size_mib // 1024
    return options


def require_room(options, folder, tools):
    """Says before all work whether the disk is too full for it."""
    need, free = bench.room(options, len(tools)), measure.free(folder)
    if need > free:
        sys.exit(f"this needs about {need / 2**30:.0f} GiB in {folder}, and {free / 2**30:.0f} are free: see --folder, --days, --only")


def main():
    """The whole suite."""
    options = arguments()
    if options.cold != "no" and not measure.can_be_cold():
        sys.exit("--cold: only root can empty the page cache")
    # As ^C does: what runs is ended, and the folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tillsafe-bench-", dir=options.folder) as scratch:
        suite = bench.Bench(options, scratch, ROOT)
        if not suite.tools or suite.tools[0].name != "tillsafe":
            sys.exit("there is no target/release/tillsafe: run `cargo build --release` first")
        suite.tools[0].compression = options.compression
        require_room(options, scratch, suite.tools)
        suite.everything()
        report = {
            "tools": [f"{tool.name}: {tool.version()}" for tool in suite.tools],
            "machine": table.machine(scratch),
            "options": vars(options) | {"command": " ".join(["python3", "benches/peers", *sys.argv[1:]])},
            "facts": suite.facts,
            "limits": suite.limits,
            "rows": suite.rows,
        }
    report["floors"] = limits.floors(report)
    report["targets"] = targets.judged(report)
    text = table.markdown(report)
    print(text)
    for path, content in ((options.json, json.dumps(report, indent=1) + "\n"), (options.markdown, text + "\n")):
        if path:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
