"""chestnut ingest beside a pydicom + Pillow script that does the same: rate and memory, turns interleaved, one run.

    cargo build --release
    pip install numpy pydicom pillow pylibjpeg pylibjpeg-rle
    target/release/chestnut phantom --hospital-export 10000 -o export
    python benchsuite/ingest.py export --name laptop          writes benchsuite/runs/ingest-laptop.json, prints the table
    python benchsuite/ingest.py --show benchsuite/runs/ingest-laptop.json

What both do, on two cores: list the folder; find the row of each file by its accession number; refuse what is no
frontal chest film by its header (object, modality, body part, view); decode the rest (modality, window, MONOCHROME1
inverted); hash each file; make a thumbnail and compare all pairs to find copies; write the tables and a contact sheet of 48.
The peer reads each file once, with pydicom's fastest decoders that are installed, in a pool of two processes. Both must
use as many images as truth.csv says, or the run stops. Every turn is a fresh process on a warm disk cache; who is first
changes from round to round. Memory is the resident memory of all processes of a turn, sampled ten times a second.
Linux only.
"""

import argparse
import csv
import datetime
import hashlib
import importlib.metadata
import io
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUNS = ROOT / "benchsuite" / "runs"
CHESTNUT = ROOT / "target/release/chestnut"
SAMPLE_SECONDS = 0.1
CORES = 2
PACKAGES = ["pydicom", "pillow", "numpy", "pylibjpeg", "pylibjpeg-rle"]

# ---- the peer: what one would write with pydicom and Pillow ----------------------------------------------------------

CHEST = ("chest", "thorax", "torace")
PORTABLE = ("a letto", "portable", "bedside")
LABELS = ["Normal", "Cardiac", "Lung", "PNX", "Pleura", "Bone", "Device"]
WORDS = {"si": "1", "no": "0", "": ""}
THUMBNAIL = 16
NEAR = 0.993
SHEET = 48


def read_labels(path):
    """Accession number, as a whole number, to the labels of its row; rows with an unknown word are left out."""
    rows = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file, delimiter=";"):
            if all(row[label] in WORDS for label in LABELS):
                rows[int(row["AccessionNumber"])] = [WORDS[row[label]] for label in LABELS]
    return rows


def verdict(header):
    """The view of a frontal chest film, or None and why not."""
    if header.get("SOPClassUID") == "1.2.840.10008.5.1.4.1.1.7":
        return None, "secondary capture"
    if int(header.get("NumberOfFrames") or 1) > 1 or int(header.get("SamplesPerPixel", 1)) > 1:
        return None, "not one grey frame"
    if header.get("Modality") not in ("CR", "DX", "RG"):
        return None, "modality"
    text = " ".join(str(header.get(k) or "") for k in ("SeriesDescription", "StudyDescription")).lower()
    part = str(header.get("BodyPartExamined") or "").lower() or text
    if not any(word in part for word in CHEST):
        return None, "body part"
    view = str(header.get("ViewPosition") or "").upper()
    if view in ("AP", "PA"):
        return view, ""
    orientation = list(header.get("PatientOrientation") or [])
    if view in ("LL", "RL", "LATERAL") or (orientation and orientation[0][:1] in ("A", "P")):
        return None, "lateral"
    words = str(header.get("SeriesDescription") or "").lower()
    if orientation:
        return "frontal", ""
    if any(word in words for word in PORTABLE):
        return "portable", ""
    for name in ("AP", "PA"):
        if name.lower() in words.split():
            return name, ""
    return "", ""


def one_file(path):
    """Reads, judges, decodes: (path, reason) or (path, facts, thumbnail)."""
    import numpy as np
    import pydicom
    from PIL import Image
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    try:
        content = open(path, "rb").read()
        image = pydicom.dcmread(io.BytesIO(content))
        accession = str(image.get("AccessionNumber") or "")
        if not accession.isdigit() or int(accession) not in one_file.labels:
            return path, "no row"
        view, reason = verdict(image)
        if view is None:
            return path, reason
        pixels = apply_voi_lut(apply_modality_lut(image.pixel_array, image), image).astype(np.float32)
        if image.PhotometricInterpretation == "MONOCHROME1":
            pixels = pixels.max() - pixels
        if pixels.min() == pixels.max():
            return path, "no contrast"
        small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
        thumbnail = np.asarray(small, np.float32).ravel()
        thumbnail = thumbnail - thumbnail.mean()
        thumbnail /= np.linalg.norm(thumbnail) or 1.0
        patient = hashlib.sha256(("key" + str(image.PatientID)).encode()).hexdigest()[:12]
        facts = [int(accession), patient, view, str(image.get("PatientAge") or ""), str(image.get("PatientSex") or ""),
                 pixels.shape[1], pixels.shape[0], hashlib.sha256(content).hexdigest()]
        return path, facts, thumbnail
    except Exception as error:  # one bad file never ends the run
        return path, f"unreadable: {type(error).__name__}"


def start_worker(labels):
    one_file.labels = labels


def peer(export, out):
    """The whole ingest; writes cohort.csv, rejects.csv and contact_sheet.png into `out`."""
    import numpy as np

    images = pathlib.Path(export) / "images"
    paths = sorted(str(p) for p in images.rglob("*") if p.is_file())
    labels = read_labels(pathlib.Path(export) / "labels.csv")
    found, rejects = [], []
    with multiprocessing.Pool(CORES, start_worker, (labels,)) as pool:
        for answer in pool.imap(one_file, paths, chunksize=16):
            (found if len(answer) == 3 else rejects).append(answer)
    # The first copy of a picture stays: the same file, or alike with the same patient and labels.
    thumbnails = np.stack([thumbnail for _, _, thumbnail in found]) if found else np.zeros((0, THUMBNAIL**2), np.float32)
    kept, used = [], []
    for i, (path, facts, _) in enumerate(found):
        twins = [j for j in np.flatnonzero(thumbnails[:i] @ thumbnails[i] >= NEAR) if found[j][1][1] == facts[1]]
        if any(labels[found[j][1][0]] == labels[facts[0]] for j in twins):
            rejects.append((path, "copy"))
        else:
            kept.append((path, facts))
            used.append(path)
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "cohort.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "accession", "patient", "view", "age", "sex", "width", "height", "sha256"] + LABELS)
        for path, facts in kept:
            writer.writerow([os.path.relpath(path, images)] + facts + labels[facts[0]])
    with open(out / "rejects.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["item", "reason"]] + [[os.path.relpath(r[0], images), r[1]] for r in rejects])
    sheet(used[:: max(1, len(used) // SHEET)][:SHEET], out / "contact_sheet.png")


def sheet(paths, out):
    import numpy as np
    import pydicom
    from PIL import Image

    side, columns = 160, 8
    page = Image.new("L", (side * columns, side * -(-len(paths) // columns) or side))
    for k, path in enumerate(paths):
        image = pydicom.dcmread(path)
        pixels = image.pixel_array.astype(np.float32)
        pixels = (pixels - pixels.min()) / max(1.0, float(pixels.max() - pixels.min()))
        if image.PhotometricInterpretation == "MONOCHROME1":
            pixels = 1 - pixels
        small = Image.fromarray((255 * pixels).astype(np.uint8))
        small.thumbnail((side, side))
        page.paste(small, (side * (k % columns), side * (k // columns)))
    page.save(out)


# ---- turns -----------------------------------------------------------------------------------------------------------


def resident(pid):
    """Resident memory of a process and all below it, bytes."""
    total = 0
    todo = [pid]
    while todo:
        at = todo.pop()
        try:
            with open(f"/proc/{at}/statm") as file:
                total += int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for task in os.listdir(f"/proc/{at}/task"):
                with open(f"/proc/{at}/task/{task}/children") as file:
                    todo.extend(int(child) for child in file.read().split())
        except (OSError, IndexError):
            continue
    return total


def turn(command):
    """Seconds of a command, what it wrote, and its memory over time as (seconds, bytes)."""
    memory = []
    start = time.perf_counter()
    # Into files: a pipe that nobody reads would stop the command.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        while process.poll() is None:
            memory.append((round(time.perf_counter() - start, 2), resident(process.pid)))
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - start
        err.seek(0)
        if process.returncode not in (0, 2):
            sys.exit(f"{command[0]} ended with {process.returncode}:\n{err.read().decode(errors='replace')[-2000:]}")
    return seconds, memory


def line(memory):
    """Memory at each tenth of the time, and the peak, in MB."""
    if not memory:
        return [], 0.0
    tenths = [memory[min(len(memory) - 1, k * len(memory) // 10)][1] / 1e6 for k in range(1, 11)]
    return [round(m, 1) for m in tenths], round(max(m for _, m in memory) / 1e6, 1)


def measure(export, rounds, name):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])  # both inherit it
    export = pathlib.Path(export)
    with open(export / "truth.csv", newline="", encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    wanted = {row["item"] for row in truth if row["verdict"] == "used"}
    files = [p for p in (export / "images").rglob("*") if p.is_file()]
    size = sum(len(p.read_bytes()) for p in files)  # also warms the disk cache
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="ingest-"))
    turns = {"chestnut": [], "pydicom": []}
    try:
        for k in range(rounds):
            order = ["chestnut", "pydicom"] if k % 2 == 0 else ["pydicom", "chestnut"]
            for who in order:
                out = scratch / f"{who}{k}"
                if who == "chestnut":
                    command = [str(CHESTNUT), "ingest", str(export / "images"), "--labels", str(export / "labels.csv"),
                               "--label-set", str(export / "label_set.toml"), "-o", str(out)]
                else:
                    command = [sys.executable, __file__, "--peer", str(export), str(out)]
                load = os.getloadavg()[0]
                seconds, memory = turn(command)
                with open(out / "cohort.csv", newline="", encoding="utf-8") as file:
                    used = {row["image"] for row in csv.DictReader(file)}
                if used != wanted:
                    extra, missing = sorted(used - wanted)[:3], sorted(wanted - used)[:3]
                    sys.exit(f"{who} used other images than the truth: too many {extra}, missing {missing}")
                tenths, peak = line(memory)
                turns[who].append({"seconds": seconds, "load_before": load, "peak_mb": peak, "mb_at_tenths": tenths})
                print(f"round {k + 1}: {who} {seconds:.1f} s, peak {peak:.0f} MB", file=sys.stderr)
                shutil.rmtree(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    run = {
        "what": "ingest of a hospital export",
        "date": datetime.date.today().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "python": platform.python_version(),
        "packages": {p: version(p) for p in PACKAGES},
        "chestnut": subprocess.run([CHESTNUT, "--version"], capture_output=True, text=True).stdout.strip(),
        "files": len(files),
        "bytes": size,
        "used": len(wanted),
        "turns": turns,
    }
    RUNS.mkdir(exist_ok=True)
    path = RUNS / f"ingest-{name}.json"
    path.write_text(json.dumps(run, indent=1) + "\n")
    show(run)


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor():
    for entry in open("/proc/cpuinfo"):
        if entry.startswith("model name"):
            return entry.split(":", 1)[1].strip()
    return platform.processor()


def show(run):
    print(f"{run['files']} files, {run['bytes'] / 1e9:.2f} GB, {run['used']} used; {run['cores']} cores, {run['processor']}")
    print("\n| | median s | range s | files/s | peak memory MB |\n|---|---|---|---|---|")
    medians = {}
    for who, turns in run["turns"].items():
        times = [t["seconds"] for t in turns]
        medians[who] = statistics.median(times)
        peak = max(t["peak_mb"] for t in turns)
        print(f"| {who} | {medians[who]:.1f} | {min(times):.1f} to {max(times):.1f} "
              f"| {run['files'] / medians[who]:.0f} | {peak:.0f} |")
    print(f"\nratio of the medians: {medians['pydicom'] / medians['chestnut']:.2f}")
    tenths = run["turns"]["chestnut"][-1]["mb_at_tenths"]
    print("chestnut's memory at each tenth of the last turn, MB: " + " ".join(f"{m:.0f}" for m in tenths))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default=platform.node() or "here")
    parser.add_argument("--peer", nargs=2, metavar=("EXPORT", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--show")
    a = parser.parse_args()
    if a.peer:
        peer(*a.peer)
    elif a.show:
        show(json.loads(pathlib.Path(a.show).read_text()))
    elif a.export:
        if not CHESTNUT.exists():
            sys.exit(f"{CHESTNUT} is missing; cargo build --release")
        measure(a.export, a.rounds, a.name)
    else:
        parser.error("name the export")


if __name__ == "__main__":
    main()
