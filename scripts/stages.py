"""The stages of a small made-up study, run once without trouble: what kill_test.py and disk_full.py compare with.

A study of phantom DICOM files goes through ingest, embed, tune, finetune, compare and explain; its folder is copied after
each stage. Two such runs must agree byte by byte, wall times apart, or nothing can be said about interrupted ones. The
network is made by a formula, the grid is small, and finetune teaches the head with a checkpoint after each epoch. The
pseudonym key is the same everywhere: it is drawn once per study.
"""

import json
import pathlib
import re
import shutil
import subprocess
import time

NAMES = ["ingest", "embed", "tune", "finetune", "compare", "explain"]
NET = "seeded:densenet121"
KEY = ".pseudonym-key"
# Files that are no results: the lock, and what a killed process could not remove.
LOCK = ".lock"
LEFTOVER = re.compile(r"^\.chestnut-|^\..*\.(tmp|old)$")
# Of a folder that goes when its stage comes to its end.
UNFINISHED = ".unfinished/"
GRID = """learner = "random-forest"
trees = [5, 20]
max_depth = [2, 5]
min_samples_split = [2]
min_samples_leaf = [1, 2]
criterion = ["gini"]
max_features = ["sqrt"]
bootstrap = [false]
"""
DURATION = re.compile(rb"\b\d[\d.,]*\s?(?:ms|s|min|h)(?:\s\d+\s(?:s|min))?\b")
# Wall times without a unit: recorded facts of a stage, and the share that maps took.
BARE = re.compile(rb"(?<=seconds_)(\w+: )[\d.]+|\d+(?= % of the passes)")


class Stages:
    """A scratch folder with phantoms, and the study's folder after each stage."""

    def __init__(self, binary, scratch, images, size, study=None):
        self.binary, self.scratch = str(pathlib.Path(binary).resolve()), pathlib.Path(scratch)
        # The same path in all runs: it may stand in the files.
        self.study = pathlib.Path(study or self.scratch / "study")
        self.seconds, self.environment = {}, {"CHESTNUT_MODELS": str(self.scratch / "models"), "PATH": "/usr/bin:/bin"}
        phantom = self.scratch / "phantom"
        self.must([self.binary, "phantom", "-n", str(images), "--size", str(size), "--dicom", "-o", str(phantom)])
        (self.scratch / "grid.toml").write_text(GRID)
        first = self.uninterrupted("first", None)
        second = self.uninterrupted("second", first / "after-ingest" / KEY)
        for name in NAMES:
            found = self.differences(second / f"after-{name}", name, first)
            if found:
                raise SystemExit(f"two uninterrupted runs differ after {name}: {found[:5]}")
        self.reference = first

    def command(self, name, study):
        phantom = self.scratch / "phantom"
        rest = {
            "ingest": [str(phantom / "images"), "--labels", str(phantom / "labels.csv"), "-o", str(study)],
            "embed": [str(study), "--net", NET],
            "tune": [str(study), "--grid", str(self.scratch / "grid.toml"), "--folds", "3"],
            "finetune": [str(study), "--net", NET, "--depth", "head", "--epochs", "40", "--patience", "40",
                         "--checkpoint-minutes", "0.00001"],
            "compare": [str(study), "--tuned"],
            "explain": [str(study), "--overlays", "4", "--cases", "1", "--similar", "1", "--population", "20"],
        }
        return [self.binary, name] + rest[name]

    def must(self, command):
        """Runs a command to its end; 2 means that some items were refused, which is no failure."""
        run = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        if run.returncode not in (0, 2):
            raise SystemExit(f"{' '.join(command)}\nended with {run.returncode}:\n{run.stderr[-2000:]}")
        return run

    def uninterrupted(self, name, key):
        folder = self.scratch / name
        study = self.study
        shutil.rmtree(study, ignore_errors=True)
        study.mkdir()
        if key is not None:
            shutil.copy2(key, study / KEY)
        for stage in NAMES:
            start = time.perf_counter()
            self.must(self.command(stage, study))
            self.seconds[stage] = time.perf_counter() - start
            shutil.copytree(study, folder / f"after-{stage}")
        shutil.rmtree(study)
        return folder

    def before(self, name, reference=None):
        """The study's folder before a stage."""
        at = NAMES.index(name)
        return (reference or self.reference) / f"after-{NAMES[at - 1]}" if at else None

    def restore(self, name, study):
        """Makes `study` what it is before a stage; the folder itself stays."""
        study.mkdir(exist_ok=True)
        for entry in study.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        before = self.before(name)
        if before is None:
            shutil.copy2(self.reference / "after-ingest" / KEY, study / KEY)
        else:
            shutil.copytree(before, study, dirs_exist_ok=True)

    def differences(self, study, name, reference=None):
        """Names of the files that are missing, too many or other than after the uninterrupted stage."""
        true = contents((reference or self.reference) / f"after-{name}")
        found = contents(study)
        names = sorted(set(true) | set(found))
        return [n for n in names if n not in found or n not in true or found[n] != true[n]]


def contents(folder):
    """The files of a study by name, wall times removed."""
    folder = pathlib.Path(folder)
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and path.name != LOCK and not any(LEFTOVER.search(part) for part in name.parts):
            found[str(name)] = timeless(path.name, path.read_bytes())
    return found


def leftovers(folder):
    return sum(1 for p in pathlib.Path(folder).rglob("*") if LEFTOVER.search(p.name))


def timeless(name, content):
    """The content without wall times: fields called seconds, columns called so, and times in text."""
    if name.endswith(".json"):
        return json.dumps(without_seconds(json.loads(content)), sort_keys=False).encode()
    if name.endswith(".csv"):
        lines = content.split(b"\n")
        header = lines[0].split(b",")
        timed = [k for k, cell in enumerate(header) if b"seconds" in cell.lower()]
        if timed:
            cells = [line.split(b",") for line in lines]
            return b"\n".join(b",".join(c for k, c in enumerate(row) if k not in timed) for row in cells)
        return content
    if name.endswith((".html", ".md", ".txt")):
        return BARE.sub(b"TIME", DURATION.sub(b"TIME", content))
    return content


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if "seconds" not in k}
    if isinstance(value, list):
        return [without_seconds(v) for v in value]
    return value
