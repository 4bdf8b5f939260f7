#!/usr/bin/env python3
"""Kills every stage of a study (signal 9) at random moments, runs it again, and compares every byte.

    cargo build --release
    python scripts/kill_test.py --kills 300 --json kills.json

The moments are uniform over each stage's measured duration. After a kill the same command is run again: it is either
killed as well or left to its end. Whenever a stage comes to its end, all files of the study must equal those of an
uninterrupted run (wall times apart). Prints the counts; ends with 1 if anything differs. With the defaults a study has 280
films, so embed writes two shards. Temporary files that a killed process left are counted; they are no error. The stages are
those of stages.py, or some of them (--stages). The standard library is enough.
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from stages import NAMES, Stages, leftovers

# A killed stage is run to its end, not killed again, with this probability.
FINISH = 0.4


def killed(stages, name, study, delay):
    """Starts a stage and kills it after `delay` seconds; False if it had come to its end before."""
    process = subprocess.Popen(stages.command(name, study), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               env=stages.environment)
    try:
        _, err = process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL
    if process.returncode not in (0, 2):
        sys.exit(f"{name} after a kill ended with {process.returncode}:\n{err.decode(errors='replace')[-2000:]}")
    return False


def try_stage(stages, name, kills, draw, study):
    counts = {"kills": 0, "runs_to_the_end": 0, "ended_before_the_kill": 0, "different": 0, "most_leftovers": 0}
    differing = []

    def compare():
        counts["runs_to_the_end"] += 1
        counts["most_leftovers"] = max(counts["most_leftovers"], leftovers(study))
        found = stages.differences(study, name)
        if found:
            counts["different"] += 1
            differing.extend(found[:3])

    stages.restore(name, study)
    while counts["kills"] < kills:
        if killed(stages, name, study, draw.uniform(0, stages.seconds[name])):
            counts["kills"] += 1
            if counts["kills"] < kills and draw.random() > FINISH:
                continue
            stages.must(stages.command(name, study))
        else:
            counts["ended_before_the_kill"] += 1
        compare()
        stages.restore(name, study)
    return counts, differing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/chestnut")
    parser.add_argument("--kills", type=int, default=300, help="over all stages")
    parser.add_argument("--stages", default=",".join(NAMES), help="stages to kill, of " + ", ".join(NAMES))
    parser.add_argument("--images", type=int, default=280)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="file for the counts")
    a = parser.parse_args()
    unknown = [name for name in a.stages.split(",") if name not in NAMES]
    if unknown:
        parser.error(f"no stage is called {', '.join(unknown)}")
    start = time.perf_counter()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="kill-test-"))
    draw = random.Random(a.seed)
    results, wrong = {}, []
    chosen = [name for name in NAMES if name in a.stages.split(",")]
    try:
        stages = Stages(a.binary, scratch, a.images, a.size)
        for at, name in enumerate(chosen):
            share = a.kills // len(chosen) + (at < a.kills % len(chosen))
            results[name], differing = try_stage(stages, name, share, draw, stages.study)
            wrong += [f"{name}: {file}" for file in differing]
            results[name]["seconds_uninterrupted"] = round(stages.seconds[name], 2)
            print(f"{name}: {results[name]}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    total = sum(r["kills"] for r in results.values())
    print(f"{total} kills in {(time.perf_counter() - start) / 60:.1f} minutes, "
          f"{sum(r['runs_to_the_end'] for r in results.values())} runs to the end, "
          f"{sum(r['different'] for r in results.values())} of them with other bytes than uninterrupted")
    if a.json:
        pathlib.Path(a.json).write_text(json.dumps({"kills": total, "stages": results, "different": wrong}, indent=1) + "\n")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
