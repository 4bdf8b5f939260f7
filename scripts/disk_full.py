#!/usr/bin/env python3
"""Fills the disk under ingest, embed, tune and compare, and takes the right to write away; then lets them finish.

    cargo build --release
    sudo python scripts/disk_full.py        a small tmpfs is mounted; without the right to, a limit on file sizes is used

For each stage and each share of the room that it needs, the stage is run until the disk is full. It must end with exit
code 1 and one message that names a file of the study, without a panic; what stood in the study before must still be
whole (equal to before, or to after the stage); with room again, the same command must end well and give the same bytes
as an uninterrupted run. Then the same with the study read-only. The standard library is enough; Linux only.
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

from stages import NAMES, Stages, contents, leftovers

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


def run(stages, name, study, limit=None, user=None):
    def prepare():
        if limit is not None:
            # A write beyond the limit is then an error, as on a full disk, and no signal.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    command = stages.command(name, study)
    if user is not None:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] + command
    return subprocess.run(command, capture_output=True, text=True, env=stages.environment, preexec_fn=prepare)


def fill(study, free):
    """Leaves `free` bytes on the file system of the study."""
    left = os.statvfs(study)
    size = left.f_bavail * left.f_frsize - free
    with open(study.parent / "ballast", "wb", buffering=0) as file:
        block = bytes(1 << 20)
        try:
            while size > 0:
                size -= file.write(block[: min(size, len(block))])
        except OSError:
            pass  # as full as it gets


class Judge:
    """Counts the trials and notes what is wrong."""

    def __init__(self):
        self.trials, self.failed_clearly, self.fitted, self.wrong, self.messages = 0, 0, 0, [], []

    def failure(self, stages, name, study, done, what):
        """The message of a run that had no room, and the study after it; False if the run came to its end."""
        self.trials += 1
        if done.returncode in (0, 2):
            self.fitted += 1
            return False
        note = f"{name}, {what}"
        message = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
        if done.returncode != 1:
            self.wrong.append(f"{note}: exit code {done.returncode}: {message}")
        elif "panicked" in done.stderr:
            self.wrong.append(f"{note}: a panic: {message}")
        elif str(study) not in done.stderr:
            self.wrong.append(f"{note}: the message names no file of the study: {message}")
        else:
            self.failed_clearly += 1
        self.messages.append(f"{note}: {message}")
        before = stages.before(name)
        known = [contents(before) if before else {}, contents(stages.reference / f"after-{name}")]
        for file, content in contents(study).items():
            if all(content != true.get(file) for true in known):
                # The record of stages is written after each network; it must at least be whole, and contents() read it.
                if file != "manifest.json":
                    self.wrong.append(f"{note}: {file} is neither as before nor as after")
        for file in known[0]:
            if not (study / file).is_file():
                self.wrong.append(f"{note}: {file} is lost")
        return True

    def finish(self, stages, name, study, what):
        stages.must(stages.command(name, study))
        self.wrong += [f"{name}, {what}, rerun: {file} differs" for file in stages.differences(study, name)[:3]]


def disk_full(stages, name, study, has_tmpfs, judge):
    after = stages.reference / f"after-{name}"
    need = max(size_of(after) - size_of(stages.before(name)), PAGE)
    largest = max((p.stat().st_size for p in after.rglob("*") if p.is_file()), default=PAGE)
    for share in SHARES:
        stages.restore(name, study)
        what = f"room for {share:.0%}"
        if has_tmpfs:
            fill(study, int(share * need) // PAGE * PAGE)
            done = run(stages, name, study)
            (study.parent / "ballast").unlink()
        else:
            done = run(stages, name, study, limit=int(share * largest))
        judge.failure(stages, name, study, done, what)
        judge.finish(stages, name, study, what)


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
    done = run(stages, name, study, user=user)
    if has_tmpfs:
        subprocess.run(["mount", "-o", "remount,rw", str(study.parent)], check=True)
    elif user is None:
        for path in [study, *study.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
    if not judge.failure(stages, name, study, done, what):
        judge.wrong.append(f"{name}: came to its end although the study is read-only")
    judge.finish(stages, name, study, what)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/chestnut")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--json", help="file for the counts and messages")
    a = parser.parse_args()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="disk-full-"))
    disk = scratch / "disk"
    has_tmpfs = False
    judge = Judge()
    try:
        has_tmpfs = mounted(disk)
        print("a tmpfs" if has_tmpfs else "no right to mount: a limit on file sizes stands for the full disk", flush=True)
        study = disk / "study"
        stages = Stages(a.binary, scratch, a.images, a.size, study)
        for name in NAMES:
            disk_full(stages, name, study, has_tmpfs, judge)
            read_only(stages, name, study, has_tmpfs, judge)
            print(f"{name}: {len(judge.messages)} failures so far, {len(judge.wrong)} of them not as they must be", flush=True)
        left = leftovers(study)
    finally:
        if has_tmpfs:
            subprocess.run(["umount", str(disk)], check=False)
        shutil.rmtree(scratch, ignore_errors=True)
    for message in judge.messages:
        print("  " + message)
    print(f"{judge.trials} trials: {judge.failed_clearly} clear failures, {judge.fitted} fitted, {len(judge.wrong)} wrong; "
          f"{left} temporary files left")
    if a.json:
        result = {"trials": judge.trials, "failed_clearly": judge.failed_clearly, "fitted": judge.fitted,
                  "tmpfs": has_tmpfs, "wrong": judge.wrong, "messages": judge.messages}
        pathlib.Path(a.json).write_text(json.dumps(result, indent=1) + "\n")
    if judge.wrong:
        sys.exit("\n".join(judge.wrong))


if __name__ == "__main__":
    main()
