"""The programs that are compared, each with what its own users type."""

import os
import shutil
import subprocess

PASSWORD = "teapot, celadon"


class Tool:
    """One program with a repository of its own."""

    def __init__(self, name, program, scratch):
        self.name = name
        self.program = program
        self.repository = os.path.join(scratch, f"{name}-repository")
        self.password = os.path.join(scratch, "password")
        self.environment = {
            "HOME": os.path.join(scratch, f"{name}-home"),
            "XDG_CACHE_HOME": os.path.join(scratch, f"{name}-home", ".cache"),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }
        # What ours remembers of databases is new with each repository, too.
        self.environment["XDG_STATE_HOME"] = os.path.join(self.environment["HOME"], "state")

    def begin(self):
        """A new home, with neither cache nor configuration, and no repository yet."""
        for folder in (self.repository, self.environment["HOME"]):
            shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(self.environment["HOME"])
        with open(self.password, "w", encoding="ascii") as file:
            file.write(PASSWORD + "\n")

    def version(self):
        """What it says of itself."""
        said = subprocess.run([self.program, *self.version_words], capture_output=True, text=True, check=True)
        return said.stdout.split("\n")[0]

    def opening(self):
        """What opens the repository and does next to nothing else; none where there is no such thing."""
        return None

    def proof(self):
        """What proves that the newest state restores, its databases' own checks included; none if it cannot."""
        return None

    version_words = ["version"]


class Restic(Tool):
    """Its restore syncs nothing."""

    def _words(self, *words):
        return [self.program, "-q", "-r", self.repository, "--password-file", self.password, *words]

    def create(self):
        return self._words("init")

    def backup(self, folder):
        return self._words("backup", folder)

    def restore(self, folder, target):
        return self._words("restore", f"latest:{folder}", "--target", target)

    def check(self):
        return self._words("check", "--read-data")

    def opening(self):
        # Of the others as little as they can do: no lock, no list.
        return self._words("--no-lock", "cat", "config")


class Tillsafe(Restic):
    """Ours. Its restore syncs what it wrote, and has SQLite check each database unless its proof has."""

    compression = "auto"

    def backup(self, folder):
        return self._words("backup", "--compression", self.compression, folder)

    def proof(self):
        return self._words("verify")

    def opening(self):
        return self._words("cat", "config")

    def _words(self, *words):
        return [self.program, "-q", "-r", self.repository, "-p", self.password, *words]


class Rustic(Restic):
    """The same words but for the target of a restore."""

    version_words = ["--version"]

    def _words(self, *words):
        return [self.program, "--no-progress", "-r", self.repository, "--password-file", self.password, *words]

    def restore(self, folder, target):
        return self._words("restore", f"latest:{folder}", target)

    def opening(self):
        return self._words("cat", "config")


class Borg(Tool):
    """With the compression that is the others' default."""

    version_words = ["--version"]

    def begin(self):
        super().begin()
        self.environment["BORG_PASSPHRASE"] = PASSWORD
        self.environment["BORG_RELOCATED_REPO_ACCESS_IS_OK"] = "yes"

    def create(self):
        return [self.program, "init", "-e", "repokey-blake2", self.repository]

    def backup(self, folder):
        return [self.program, "create", "-C", "zstd,3", self.repository + "::{now:%Y%m%d%H%M%S%f}", folder]

    def restore(self, folder, target):
        os.makedirs(target)
        newest = f"{self.program} list --last 1 --format '{{archive}}' {self.repository}"
        strip = folder.strip("/").count("/") + 1
        return ["sh", "-c", f"cd {target} && {self.program} extract --strip-components {strip} {self.repository}::$({newest})"]

    def check(self):
        return [self.program, "check", "--verify-data", self.repository]


def found(root, scratch, wanted=""):
    """Those that are here, and wanted: ours first."""
    here = os.path.join(root, "target")
    places = [
        (Tillsafe, "tillsafe", [os.path.join(here, "release/tillsafe")]),
        (Restic, "restic", [os.path.join(here, "tools/restic/usr/bin/restic"), shutil.which("restic")]),
        (Rustic, "rustic", [os.path.join(here, "tools/rustic/bin/rustic"), shutil.which("rustic")]),
        (Borg, "borg", [shutil.which("borg")]),
    ]
    tools = []
    for kind, name, programs in places:
        program = next((program for program in programs if program and os.access(program, os.X_OK)), None)
        if program and (not wanted or name in ["tillsafe", *wanted.split(",")]):
            tools.append(kind(name, program, scratch))
    return tools
