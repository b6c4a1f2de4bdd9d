"""The figures as people read them."""

import datetime
import os
import platform

import targets

MIB = 1024 * 1024
TITLES = {
    "W1": "W1: a shop's database",
    "W2": "W2: many small files",
    "W3": "W3: a repository of very many blobs",
    "month": "A month: the same database, each day backed up",
    "peak": "Memory: a larger database",
}
# What `benches/limits` calls it, and what it is called here.
RATES = (
    ("sha256", "SHA-256"), ("aes256_ctr", "AES-256-CTR"), ("poly1305", "Poly1305"),
    ("zstd_3", "zstd -3, the database in pieces of 256 KiB"), ("zstd_1", "zstd -1, the same"), ("zstd_back", "decompression, the same"),
    ("zstd_noise", "zstd, fast level, pictures"), ("zstd_noise_back", "decompression, the same"),
)
WORK = (
    ("read_hot", "reading a file, in the page cache"), ("read_direct_1", "reading past the page cache, 1 MiB at a time"),
    ("read_direct_4", "the same, 4 MiB at a time"), ("write_buffered", "writing a file through the page cache, one sync"),
    ("write_direct", "writing past the page cache, 4 MiB at a time, one sync"), ("files_walked", "walking through the files with their facts"),
    ("files_read", "opening and reading each file, in the page cache"), ("files_made", "making and writing as many files, one `syncfs`"),
    ("object", "storing one small object durably"), ("key", "deriving the key"),
)
# What SQLite takes for what a fingerprint and its check say; what ours takes for them comes beside it.
FINGERPRINTS = (("sqlite_count", "SQLite counts the rows of every table"), ("sqlite_quick_check", "SQLite's `quick_check`"),
                ("census", "ours looks at every page (a day's backup: at those that have changed)"))


def machine(folder):
    """Where and when."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    when = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    model = models[0] if models else platform.machine()
    size = f"{memory / MIB / 1024:.0f} GiB"
    return f"{os.cpu_count()} × {model}, {size}, Linux {platform.release()}, {file_system(folder)}, {when}"


def file_system(folder):
    """What the kernel calls the file system of a folder."""
    with open("/proc/mounts", encoding="utf-8") as file:
        mounts = [line.split()[1:3] for line in file]
    folder = os.path.realpath(folder)
    holding = [(len(place), kind) for place, kind in mounts if os.path.commonpath([place, folder]) == place]
    return max(holding)[1] if holding else "an unknown file system"


def markdown(report):
    """All tables, in the shape of docs/benchmarks.md."""
    names = [tool.split(":")[0] for tool in report["tools"]]
    lines = [
        f"{report['machine']}; {'; '.join(report['tools'])}, each with its defaults.",
        f"`{report['options']['command']}`. Medians of {report['options']['runs']}: wall seconds [least–most] "
        "(processor seconds, peak MiB, growth of the repository in MiB).",
    ]
    for heat, rows in report["rows"].items():
        cold = ", cold" if heat == "cold" else ""
        rows = rows | targets.without_key(rows)
        for kind, title in TITLES.items():
            chosen = {row: measured for row, measured in rows.items() if row.startswith(kind)}
            if chosen:
                about = [] if cold else said(kind, report["facts"])
                lines += ["", f"## {title}{cold}", "", *about, *compared(ordered(chosen), names)]
    if report["targets"]:
        lines += ["", "## Against the targets", "", *judgement(report["targets"])]
    if report["floors"]:
        lines += ["", "## The floor of each row", "", *floors(report)]
    for kind, found in report["limits"].items():
        lines += ["", f"## What the machine itself takes, {kind}", "", *machine_limits(found)]
    return "\n".join(lines)


def ordered(rows):
    """What was derived comes right behind what it was derived from."""
    derived = ", without the key"
    names = [name for name in rows if not name.endswith(derived)]
    wanted = [one for name in names for one in (name, name + derived) if one in rows]
    return {name: rows[name] for name in wanted}


def said(kind, facts):
    """What the data is like."""
    if kind not in facts:
        return []
    known = facts[kind]
    words = f"{known['bytes'] / MIB:,.0f} MiB"
    if "share" in known:
        words += f"; the day touches {known['touched']:,} rows and dirties {known['share']:.1%} of the pages in {known['runs']:,} runs"
    elif "changed" in known:
        words += f"; the day changes files of {known['changed'] / MIB:,.0f} MiB"
    if "smaller" in known:
        words += f"; `zstd -3` makes it {known['smaller']:.2f} times smaller"
    return [words + ".", ""]


def compared(rows, names):
    """A row for each piece of work, a column for each tool, and how ours stands to the best other."""
    lines = [f"| | {' | '.join(names)} | ours to the best other |", f"|---|{'---|' * (len(names) + 1)}"]
    for row, measured in rows.items():
        ratio = targets.to_best(measured)
        cells = [cell(measured[name]) if name in measured else "–" for name in names]
        lines.append(f"| {row} | {' | '.join(cells)} | {'–' if ratio is None else f'{ratio:.2f}'} |")
    return lines


def cell(measured):
    """One tool's figures of one row."""
    walls = [one["wall"] for one in measured]
    text = f"{targets.median(measured, 'wall'):.2f}"
    if len(walls) > 1:
        text += f" [{min(walls):.2f}–{max(walls):.2f}]"
    if "processor" not in measured[0]:
        return text
    growth = targets.median(measured, "growth") / MIB
    grown = f", +{growth:.1f}" if abs(growth) >= 0.05 else ""
    return f"{text} ({targets.median(measured, 'processor'):.1f}, {targets.median(measured, 'peak') / MIB:.0f}{grown})"


def judgement(verdicts):
    """Every target beside what was reached."""
    lines = ["| | target | here | of its floor | |", "|---|---|---|---|---|"]
    for one in verdicts:
        times = "–" if one["times_floor"] is None else f"{one['times_floor']:.2f} ×"
        lines.append(f"| {one['row']} | {one['target']} | {one['here']} | {times} | {one['verdict']} |")
    return lines


def floors(report):
    """What cannot be left out, in seconds of all cores together."""
    rows = report["rows"]["hot"]
    lines = ["| | here | floor | what it is made of (seconds, all cores at work) |", "|---|---|---|---|"]
    for row, value in report["floors"].items():
        if row in rows and "tillsafe" in rows[row]:
            here = targets.median(rows[row]["tillsafe"], "wall")
            lines.append(f"| {row} | {here:.2f} | {value['seconds']:.2f} | {value['formula']} |")
    return lines


def machine_limits(found):
    """What `benches/limits` has measured, and what SQLite takes for fingerprints."""
    lines = ["| best of three | MB/s one core | MB/s all cores at once |", "|---|---|---|"]
    lines += [f"| {words} | {found[name]['core']:,.0f} | {found[name]['machine']:,.0f} |" for name, words in RATES if name in found]
    lines += ["", "| best of three | wall s | processor s | MB/s |", "|---|---|---|---|"]
    for name, words in (*WORK, *FINGERPRINTS):
        value = found.get(name)
        if value:
            speed = f"{value['bytes'] / 1e6 / value['wall']:,.0f}" if "bytes" in value and name != "files_walked" else "–"
            number = f" ({value['files']:,} files)" if "files" in value else ""
            lines.append(f"| {words}{number} | {value['wall']:.3f} | {value['processor']:.2f} | {speed} |")
    if "zstd_3_whole_ratio" in found:
        pieces, whole = found["zstd_3_pieces_ratio"], found["zstd_3_whole_ratio"]
        lines += ["", f"zstd -3 makes the database {whole:.2f} times smaller as one stream (`zstd -3 FILE`: what is required to be "
                      f"3.0 to 3.2), {pieces:.2f} times in pieces of 256 KiB (a sample)."]
    return lines
