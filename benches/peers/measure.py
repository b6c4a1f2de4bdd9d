"""What one command costs: wall clock, processors, memory."""

import os
import shutil
import signal
import subprocess
import sys
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


# A process begins with the peak of whoever starts it, so that is a small one: it says the exit code, and what its child cost.
LAUNCHER = """import resource, subprocess, sys, time
begun = time.monotonic()
code = subprocess.call(sys.argv[2:])
wall = time.monotonic() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{code} {wall} {used.ru_utime + used.ru_stime} {used.ru_maxrss}")"""


def run(command, environment, cwd=None):
    """Runs a command to its end and says what it cost, its children included."""
    told = os.path.join(environment["HOME"], "cost")
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, told, *command]
    with open(os.devnull, "r+b") as nothing, open(os.path.join(environment["HOME"], "last"), "w+b") as said:
        to_its_end(launch, stdin=nothing, stdout=said, stderr=said, env=environment, cwd=cwd)
        with open(told, encoding="ascii") as file:
            code, wall, processor, peak = file.read().split()
        if code != "0":
            said.seek(0)
            text = said.read()[-2000:].decode(errors="replace")
            raise Failed(f"{' '.join(command)}: exit code {code}\n{text}")
    return Cost(float(wall), float(processor), int(peak) * 1024)


def to_its_end(command, **options):
    """Waits for a command. Whoever stops us stops it and all that it has started: nothing goes on in a folder that is removed."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        said, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise Failed(f"{' '.join(command)}: exit code {process.returncode}")
    return said


def cargo_bench(root, name, words):
    """Runs a bench of this project and returns what it prints."""
    command = ["cargo", "bench", "-q", "--locked", "--bench", name, "--", *words]
    return to_its_end(command, cwd=root, stdout=subprocess.PIPE, text=True)


def free(folder):
    """Bytes that can still be written there."""
    return shutil.disk_usage(folder).free


def settle(cold, folder):
    """Lets the disk finish what the last command left, and forgets what was read if the next one is to be cold. If it is to be
    hot, memory is made full of cache, as on a machine that has been at work for a day."""
    os.sync()
    if cold:
        with open(DROP, "w", encoding="ascii") as drop:
            drop.write("3")
    else:
        fill_memory(folder)


def warm(*folders):
    """Has all that lies there in the page cache: what was made a minute ago may be out of it again."""
    for folder in folders:
        for path, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(path, name), "rb", buffering=0) as file:
                    while file.read(1024 * 1024):
                        pass


def free_memory():
    """Bytes that hold nothing, not even cache."""
    with open("/proc/meminfo", encoding="ascii") as file:
        words = next(line for line in file if line.startswith("MemFree:"))
    return int(words.split()[1]) * 1024


def fill_memory(folder):
    """Has memory that is free touched once, by a file of holes that is read into the cache: a virtual machine gets its memory from
    its host only then, which may cost more than all else, and whoever comes first after large files were removed would pay for it.
    What is in the cache already stays there."""
    enough, step = 512 * 1024 * 1024, 16 * 1024 * 1024
    path = os.path.join(folder, "holes")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # It is there from the last time, and stays: with the file its memory would go. It goes on where it ended: what was read is in
    # the cache, or was pushed out of it.
    with open(path, "a+b") as file:
        begin = os.path.getsize(path)
        for offset in range(begin, begin + memory, step):
            if free_memory() < enough:
                break
            file.truncate(offset + step)
            file.seek(offset)
            file.read(step)


def wait_for_inodes(folder):
    """Waits, at most six minutes, until a file here costs what a file costs. For one to five minutes ext4 without a journal goes
    past each inode that was freed before it gives a file another: 1 ms instead of 40 µs, which the first would pay that comes
    after somebody has removed thousands. Says whether it is so now."""
    enough, files, pause = 0.0002, 200, 15
    for _ in range(6 * 60 // pause):
        probe = os.path.join(folder, f"probe-{time.monotonic_ns()}", "files")
        os.makedirs(probe)
        begun = time.process_time()
        for number in range(files):
            with open(os.path.join(probe, str(number)), "wb") as file:
                file.write(b"tea")
        if (time.process_time() - begun) / files < enough:
            return True
        time.sleep(pause)
    return False


def rest():
    """Lets what was just made grow older than a minute: what is younger, ours reads again, for its times do not tell."""
    time.sleep(61)


def can_be_cold():
    """Whether the page cache can be emptied here."""
    return os.access(DROP, os.W_OK)
