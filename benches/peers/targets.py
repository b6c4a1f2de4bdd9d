"""The targets, and whether they are held: each ratio is of medians, to the best other of the same row in the same run."""

import statistics

# How far from a limit of the machine a miss may be.
NEAR = 1.3
MIB = 1024 * 1024
PEAK_MIB = 200

# Row, most of the best other's wall.
WALLS = (
    ("W1 unchanged", 0.8),
    ("W1 unchanged, without the key", 0.3),
    ("W1 after the day", 0.3),
    ("W1 restore", 0.7),
    ("W1 check, all data read", 0.6),
    ("W2 unchanged", 0.8),
    ("W2 unchanged, without the key", 0.3),
    ("W2 after the day", 0.5),
    ("W2 restore", 0.35),
    ("W2 check, all data read", 0.4),
)
# Either of these: wall against the best other, and the repository against restic's.
FULL = {"W1": ((1.0, 1.02), (0.8, 1.08)), "W2": ((0.35, 1.01),)}
W1_GROWTH, MONTH_REPOSITORY, MONTH_RESTORE, W3 = 0.18, 0.4, 1.0, 0.25


def median(measured, what):
    """Over the runs."""
    return statistics.median(one[what] for one in measured)


def to_best(row, what="wall"):
    """Ours divided by the least of the others; none if there is no other, or nothing that could be divided by."""
    others = [median(measured, what) for name, measured in row.items() if name != "tillsafe"]
    if "tillsafe" not in row or not others or min(others) <= 0:
        return None
    return median(row["tillsafe"], what) / min(others)


def to_restic(row, what):
    """Ours divided by restic's; none if it was not there."""
    if "tillsafe" not in row or "restic" not in row or not median(row["restic"], what):
        return None
    return median(row["tillsafe"], what) / median(row["restic"], what)


def without_key(rows):
    """The unchanged rows less what opening the repository takes, run by run, each tool's own."""
    derived = {}
    for kind in ("W1", "W2"):
        opened, whole = (rows.get(f"{kind} {row}") for row in ("opening (deriving the key)", "unchanged"))
        for tool in opened or {}:
            walls = [{"wall": one["wall"] - key["wall"]} for one, key in zip((whole or {}).get(tool, []), opened[tool])]
            if walls:
                derived.setdefault(f"{kind} unchanged, without the key", {})[tool] = walls
    return derived


def judged(report):
    """One entry a target that could be looked at, with what is said of it. Of a run with a hot and a cold half, the hot one."""
    rows = next(iter(report["rows"].values()))
    rows = rows | without_key(rows)
    floors = report["floors"] | floors_without_key(report)
    verdicts = [verdict for kind in FULL for verdict in full(kind, rows, floors)]
    for name, most in WALLS:
        verdicts += at_most(name, to_best(rows.get(name, {})), most, near(name, rows, floors))
    verdicts += at_most("W1 after the day, growth", to_best(rows.get("W1 after the day", {}), "growth"), W1_GROWTH)
    for name, row in rows.items():
        if name.startswith("month of"):
            verdicts += at_most(name, to_best(row, "growth"), MONTH_REPOSITORY)
        elif name.startswith("month: restore"):
            verdicts += at_most(name, to_best(row), MONTH_RESTORE)
        elif name.startswith("W3"):
            for what, word in (("wall", "wall"), ("peak", "memory")):
                verdicts += at_most(f"{name}: {word} against restic", to_restic(row, what), W3)
    return verdicts + memory(rows)


def floors_without_key(report):
    """What is left of a floor when the key is derived."""
    keys = {kind: found["key"]["wall"] for kind, found in report["limits"].items()}
    whole = {kind: report["floors"].get(f"{kind} unchanged") for kind in keys}
    return {
        f"{kind} unchanged, without the key": {"seconds": value["seconds"] - keys[kind], "formula": f"{value['formula']}, less the key"}
        for kind, value in whole.items()
        if value
    }


def near(name, rows, floors):
    """How many times its floor ours takes, if there is one."""
    if name not in floors or "tillsafe" not in rows.get(name, {}):
        return None
    return median(rows[name]["tillsafe"], "wall") / floors[name]["seconds"]


def at_most(name, here, most, times_floor=None):
    """One target, a ratio."""
    if here is None:
        return []
    return [entry(name, f"≤ {most}", f"{here:.2f}", here <= most, times_floor)]


def entry(name, target, here, held, times_floor=None):
    """What is printed of one target."""
    if held:
        verdict = "held"
    elif times_floor is not None and times_floor <= NEAR:
        verdict = f"missed, within {NEAR} × of the machine's limit"
    else:
        verdict = "missed"
    return {"row": name, "target": target, "here": here, "times_floor": times_floor, "verdict": verdict}


def full(kind, rows, floors):
    """A first backup: no limit of the machine excuses a repository that is too large."""
    name = f"{kind} full"
    wall, size = to_best(rows.get(name, {})), to_restic(rows.get(name, {}), "growth")
    if wall is None or size is None:
        return []
    allowed = FULL[kind]
    held = any(wall <= most and size <= largest for most, largest in allowed)
    fits = any(size <= largest for _, largest in allowed)
    words = " or ".join(f"≤ {most}, repository ≤ {largest} × restic's" for most, largest in allowed)
    return [entry(name, words, f"{wall:.2f}, {size:.3f} ×", held, near(name, rows, floors) if fits else None)]


def memory(rows):
    """The most that ours takes anywhere."""
    peaks = {name: max(one["peak"] for one in row["tillsafe"]) / MIB for name, row in rows.items()
             if "tillsafe" in row and "peak" in row["tillsafe"][0]}
    if not peaks:
        return []
    name = max(peaks, key=peaks.get)
    return [entry(f"peak memory (most: {name})", f"≤ {PEAK_MIB} MiB", f"{peaks[name]:.0f} MiB", peaks[name] <= PEAK_MIB)]
