#!/usr/bin/env python3
"""Fills the disk under every stage of a study and under pretrain, takes the right to write away, and lets them finish.

    cargo build --release
    sudo python scripts/disk_full.py        a small tmpfs is mounted; without the right to, a limit on file sizes is used

For each stage and each share of the room that it needs, the stage is run until the disk is full. It must end with exit
code 1 and one message that names a file of the study, without a panic; what stood in the study before must still be
whole (equal to before, or to after the stage); with room again, the same command must end well and give the same bytes
as an uninterrupted run. Then the same with the study read-only. pretrain is run into an empty folder, and onwards from a
checkpoint: that one must stay, or a later one be whole, and the rerun must end in the same weights. The standard library
is enough; Linux only.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

from stages import LEFTOVER, LOCK, NAMES, UNFINISHED, Stages, contents, leftovers

SHARES = [0.0, 0.1, 0.3, 0.6, 0.9]
PAGE = 4096
ROOM = 1 << 27


def size_of(folder):
    files = [p for p in pathlib.Path(folder).rglob("*") if p.is_file()] if folder else []
    return sum(-(-p.stat().st_size // PAGE) * PAGE for p in files)


def mounted(folder):
    """Whether a tmpfs could be mounted there."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)], capture_output=True)
    return done.returncode == 0


def run(command, environment, limit=None, user=None):
    def prepare():
        if limit is not None:
            # A write beyond the limit is then an error, as on a full disk, and no signal.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] + command
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=prepare)


def fill(folder, free):
    """Leaves `free` bytes on the file system of the folder."""
    left = os.statvfs(folder)
    size = left.f_bavail * left.f_frsize - free
    with open(folder.parent / "ballast", "wb", buffering=0) as file:
        block = bytes(1 << 20)
        try:
            while size > 0:
                size -= file.write(block[: min(size, len(block))])
        except OSError:
            pass  # as full as it gets


class Judge:
    """Counts the trials of one stage and notes what is wrong."""

    def __init__(self, name):
        self.name, self.trials, self.failed_clearly, self.fitted, self.wrong, self.messages = name, 0, 0, 0, [], []

    def message(self, folder, done, what):
        """How a run that had no room ended; False if it came to its end."""
        self.trials += 1
        if done.returncode in (0, 2):
            self.fitted += 1
            return False
        note = f"{self.name}, {what}"
        message = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        if done.returncode != 1:
            self.wrong.append(f"{note}: exit code {done.returncode}: {message}")
        elif "panicked" in done.stderr:
            self.wrong.append(f"{note}: a panic: {message}")
        elif str(folder) not in done.stderr:
            self.wrong.append(f"{note}: the message names no file of {folder}: {message}")
        else:
            self.failed_clearly += 1
        self.messages.append(f"{note}: {message}")
        return True

    def failure(self, stages, study, done, what):
        """The message of a run that had no room, and the study after it; False if the run came to its end."""
        if not self.message(study, done, what):
            return False
        note = f"{self.name}, {what}"
        before = stages.before(self.name)
        known = [contents(before) if before else {}, contents(stages.reference / f"after-{self.name}")]
        for file, content in contents(study).items():
            # The record of stages is written after each network, and what is kept to go on goes at the end; they must at
            # least be whole, and contents() read them.
            if file != "manifest.json" and UNFINISHED not in file and all(content != true.get(file) for true in known):
                self.wrong.append(f"{note}: {file} is neither as before nor as after")
        for file in known[0]:
            if not (study / file).is_file():
                self.wrong.append(f"{note}: {file} is lost")
        return True

    def finish(self, stages, study, what):
        stages.must(stages.command(self.name, study))
        found = stages.differences(study, self.name)[:3]
        self.wrong += [f"{self.name}, {what}, rerun: {file} differs" for file in found]


def disk_full(stages, name, study, has_tmpfs, judge):
    after = stages.reference / f"after-{name}"
    need = max(size_of(after) - size_of(stages.before(name)), PAGE)
    largest = max((p.stat().st_size for p in after.rglob("*") if p.is_file()), default=PAGE)
    for share in SHARES:
        stages.restore(name, study)
        what = f"room for {share:.0%}"
        if has_tmpfs:
            fill(study, int(share * need) // PAGE * PAGE)
            done = run(stages.command(name, study), stages.environment)
            (study.parent / "ballast").unlink()
        else:
            done = run(stages.command(name, study), stages.environment, limit=int(share * largest))
        judge.failure(stages, study, done, what)
        judge.finish(stages, study, what)


def read_only(stages, name, study, has_tmpfs, judge):
    stages.restore(name, study)
    what, user = "read-only", None
    if has_tmpfs:
        subprocess.run(["mount", "-o", "remount,ro", str(study.parent)], check=True)
    elif os.geteuid() == 0:
        # Root may write everywhere; nobody may not, but must be able to read.
        user = 65534
        shown = [p for p in stages.scratch.rglob("*") if p.is_relative_to(study) or "phantom" in p.parts]
        for path in [stages.scratch, study.parent, *shown]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    else:
        for path in [study, *study.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
    done = run(stages.command(name, study), stages.environment, user=user)
    if has_tmpfs:
        subprocess.run(["mount", "-o", "remount,rw", str(study.parent)], check=True)
    elif user is None:
        for path in [study, *study.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    if not judge.failure(stages, study, done, what):
        judge.wrong.append(f"{name}: came to its end although the study is read-only")
    judge.finish(stages, study, what)


class Pretraining:
    """A small pretraining on the phantoms of `stages`: run to its end, and to its second epoch, without trouble."""

    def __init__(self, stages, folder):
        self.stages, self.folder = stages, folder
        shutil.rmtree(folder, ignore_errors=True)
        self.kept = {"nothing": None}
        for name, epochs in [("two epochs", 2), ("four epochs", 4)]:
            stages.must(self.command(epochs))
            self.kept[name] = stages.scratch / name.replace(" ", "-")
            shutil.copytree(folder, self.kept[name])
        shutil.rmtree(folder)
        # From nothing once more: what went on and what did not must agree, or nothing can be said.
        stages.must(self.command())
        self.true = outcome(self.kept["four epochs"])
        found = different(outcome(folder), self.true)
        if found:
            raise SystemExit(f"pretrain: two uninterrupted runs differ in {found}")

    def command(self, epochs=4):
        phantom = self.stages.scratch / "phantom"
        # The backbone is frozen: a checkpoint is then one network large and not three, and a run takes seconds.
        return [self.stages.binary, "pretrain", str(phantom / "labels.csv"), "--images", str(phantom / "images"),
                "--labels", "Lung,Device", "-o", str(self.folder), "--size", "64", "--cache-size", "72", "--batch", "4",
                "--epochs", str(epochs), "--patience", "9", "--validation", "0.25", "--rotation", "7",
                "--freeze", "backbone", "--checkpoint-batches", "1"]

    def restore(self, start):
        """Makes the folder what it is after `start`; the folder itself stays."""
        self.folder.mkdir(exist_ok=True)
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if self.kept[start]:
            shutil.copytree(self.kept[start], self.folder, dirs_exist_ok=True)

    def try_all(self, has_tmpfs, judge):
        whole = self.kept["four epochs"]
        last = (whole / "last.safetensors").stat().st_size
        for start, need in [("nothing", size_of(whole)), ("two epochs", last)]:
            for share in SHARES:
                self.restore(start)
                what = f"from {start}, room for {share:.0%}"
                if has_tmpfs:
                    fill(self.folder, int(share * need) // PAGE * PAGE)
                    done = run(self.command(), self.stages.environment)
                    (self.folder.parent / "ballast").unlink()
                else:
                    done = run(self.command(), self.stages.environment, limit=int(share * last))
                self.judge(start, done, what, judge)
        if has_tmpfs:
            self.restore("two epochs")
            subprocess.run(["mount", "-o", "remount,ro", str(self.folder.parent)], check=True)
            done = run(self.command(), self.stages.environment)
            subprocess.run(["mount", "-o", "remount,rw", str(self.folder.parent)], check=True)
            if not self.judge("two epochs", done, "read-only", judge):
                judge.wrong.append("pretrain: came to its end although the folder is read-only")

    def judge(self, start, done, what, judge):
        failed = judge.message(self.folder, done, what)
        note = f"pretrain, {what}"
        if failed:
            before = place(self.kept[start] / "last.safetensors") if self.kept[start] else (0, 0)
            for name in ["last.safetensors", "best.safetensors"]:
                path = self.folder / name
                if path.is_file() and not is_whole(path):
                    judge.wrong.append(f"{note}: {name} is cut")
                elif not path.is_file() and self.kept[start]:
                    judge.wrong.append(f"{note}: {name} is lost")
                elif path.is_file() and name.startswith("last") and place(path) < before:
                    judge.wrong.append(f"{note}: the checkpoint is older than it was")
            if leftovers(self.folder):
                judge.wrong.append(f"{note}: temporary files are left")
        self.stages.must(self.command())
        judge.wrong += [f"{note}, rerun: {name} differs" for name in different(outcome(self.folder), self.true)[:3]]
        return failed


def header(path):
    """Length and content of a safetensors file's header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return length, json.loads(file.read(length))


def is_whole(path):
    try:
        length, found = header(path)
    except ValueError:
        return False
    end = max((t["data_offsets"][1] for name, t in found.items() if name != "__metadata__"), default=0)
    return path.stat().st_size == 8 + length + end


def place(path):
    """Epoch and batch of a checkpoint."""
    found = json.loads(header(path)[1]["__metadata__"]["chestnut.pretrain.place"])
    return found["epoch"], found["batch"]


def outcome(folder):
    """What a pretraining leaves, without wall times: the log, its length in the checkpoint, and the list of the cache."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        is_lock = path.name == LOCK or path.name.endswith(".lock")
        if not path.is_file() or is_lock or path.name == "log.jsonl" or LEFTOVER.search(path.name):
            continue
        found[name] = path.read_bytes()
        if path.name == "last.safetensors":
            length, _ = header(path)
            found[name] = found[name][8 + length:]
    return found


def different(found, true):
    return [name for name in sorted(set(found) | set(true)) if found.get(name) != true.get(name)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/chestnut")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--json", help="file for the counts and messages")
    a = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="disk-full-"))
    disk = scratch / "disk"
    has_tmpfs, judges, left = False, [], 0
    try:
        has_tmpfs = mounted(disk)
        print("a tmpfs" if has_tmpfs else "no right to mount: a limit on file sizes stands for the full disk", flush=True)
        study = disk / "study"
        stages = Stages(a.binary, scratch, a.images, a.size, study)
        for name in NAMES:
            judges.append(Judge(name))
            disk_full(stages, name, study, has_tmpfs, judges[-1])
            read_only(stages, name, study, has_tmpfs, judges[-1])
            tell(judges[-1])
        left = leftovers(study)
        shutil.rmtree(study)
        judges.append(Judge("pretrain"))
        Pretraining(stages, disk / "run").try_all(has_tmpfs, judges[-1])
        tell(judges[-1])
    finally:
        if has_tmpfs:
            subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    wrong = [line for judge in judges for line in judge.wrong]
    for judge in judges:
        for message in judge.messages:
            print("  " + message)
    print(f"{sum(j.trials for j in judges)} trials: {sum(j.failed_clearly for j in judges)} clear failures, "
          f"{sum(j.fitted for j in judges)} fitted, {len(wrong)} wrong; {left} temporary files left")
    if a.json:
        stages = {j.name: {"trials": j.trials, "failed_clearly": j.failed_clearly, "fitted": j.fitted, "wrong": j.wrong,
                           "messages": j.messages} for j in judges}
        pathlib.Path(a.json).write_text(json.dumps({"tmpfs": has_tmpfs, "stages": stages}, indent=1) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


def tell(judge):
    print(f"{judge.name}: {judge.trials} trials, {judge.failed_clearly} clear failures, {judge.fitted} had room, "
          f"{len(judge.wrong)} wrong", flush=True)


if __name__ == "__main__":
    main()
