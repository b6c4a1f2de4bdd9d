"""What one command costs: wall clock, processors, memory."""

import os
import subprocess
import time
from dataclasses import dataclass

# What may be held of the page cache is given up before a cold run; only root can.
DROP = "/proc/sys/vm/drop_caches"


@dataclass
class Cost:
    """One run of a command. Seconds and bytes."""

    wall: float
    processor: float
    peak: int


class Failed(Exception):
    """A command that did not do its work."""


def run(command, environment, cwd=None):
    """Runs a command to its end and says what it cost, its children included."""
    with open(os.devnull, "r+b") as nothing, open(os.path.join(environment["HOME"], "last"), "w+b") as said:
        begun = time.monotonic()
        child = subprocess.Popen(command, stdin=nothing, stdout=said, stderr=said, env=environment, cwd=cwd)
        # The memory of the largest process below it, which is the tool itself.
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            text = said.read()[-2000:].decode(errors="replace")
            raise Failed(f"{' '.join(command)}: exit code {child.returncode}\n{text}")
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def settle(cold):
    """Lets the disk finish what the last command left, and forgets what was read if the next one is to be cold."""
    os.sync()
    if cold:
        with open(DROP, "w", encoding="ascii") as drop:
            drop.write("3")


def rest():
    """Lets what was just made grow older than a minute: what is younger, ours reads again, for its times do not tell."""
    time.sleep(61)


def can_be_cold():
    """Whether the page cache can be emptied here."""
    return os.access(DROP, os.W_OK)
