"""The figures as people read them."""

import datetime
import os
import platform
import statistics

MIB = 1024 * 1024


def machine():
    """Where and when."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    when = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    model = models[0] if models else platform.machine()
    return f"{os.cpu_count()} × {model}, {memory // MIB // 1024} GiB, Linux {platform.release()}, {when}"


def middle(measured, what):
    """The median of one figure, over the runs."""
    return statistics.median(one[what] for one in measured)


def markdown(report):
    """One table: a row for each piece of work, a column for each tool, and how ours stands to the best other."""
    names = [tool.split(":")[0] for tool in report["tools"]]
    lines = [
        f"{report['machine']}; {'; '.join(report['tools'])}.",
        *(f"The shop: {fact}." for fact in report["shop"]),
        f"`{report['options']['command']}`. Medians of {report['options']['runs']}: wall seconds "
        "(processor seconds, peak MiB, growth of the repository in MiB).",
        "",
        f"| | {' | '.join(names)} | ours to the best other |",
        f"|---|{'---|' * (len(names) + 1)}",
    ]
    for row, measured in report["rows"].items():
        others = [middle(measured[name], "wall") for name in names[1:] if name in measured]
        ratio = f"{middle(measured[names[0]], 'wall') / min(others):.2f}" if others else "–"
        cells = [cell(measured[name]) if name in measured else "–" for name in names]
        lines.append(f"| {row} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def cell(measured):
    """One tool's figures of one row."""
    growth = middle(measured, "growth") / MIB
    grown = f", +{growth:.1f}" if abs(growth) >= 0.05 else ""
    processor, peak = middle(measured, "processor"), middle(measured, "peak") / MIB
    return f"{middle(measured, 'wall'):.2f} ({processor:.1f}, {peak:.0f}{grown})"
