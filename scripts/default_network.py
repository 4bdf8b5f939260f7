"""Trains the network that ships with chestnut (crates/chestnut-zoo/shipped).

    cargo build --release
    python3 scripts/default_network.py [--folder scratch/default] [--nice 5]

1. makes one table of two sets: kermany5856 (children; normal, bacterial and viral pneumonia) of $CHESTNUT_DATA, and 1000
   phantoms of another seed than the demo's. nih1000 is left out whole, so that it can be used to judge the network;
2. trains DenseNet121 from random weights at 128 pixels by `chestnut pretrain`, which goes on where it was if this script is run
   again. The network is then FOLDER/models/chestnut-densenet121; log and learning curve are in FOLDER/run.
Labels are named after their set ("Pneumonia (child)", "Cardiac (phantom)"): an opacity drawn by a program must not count as a
radiologist's finding. A label of the other set is blank, that is unknown.
"""

import argparse
import csv
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHILDREN = ["Normal", "Pneumonia", "Bacterial", "Viral"]
PHANTOM = ["Normal", "Cardiac", "Lung", "PNX", "Pleura", "Bone", "Device"]
NAME = "chestnut-densenet121"
OPTIONS = ["--net", "densenet121", "--size", "128", "--cache-size", "146", "--crop", "template", "--epochs", "6", "--batch", "32",
           "--rate", "1e-3", "--schedule", "cosine", "--warm-up", "100", "--statistics", "0.9", "--rotation", "7", "--scale", "0.02",
           "--shear", "3", "--seed", "1"]
LICENCE = "MIT OR Apache-2.0; trained on Kermany et al. 2018 (CC BY 4.0) and phantoms"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "scratch/default")
    parser.add_argument("--chestnut", type=pathlib.Path, default=ROOT / "target/release/chestnut")
    parser.add_argument("--nice", type=int, default=0)
    arguments = parser.parse_args()
    folder, data = arguments.folder, pathlib.Path(os.environ.get("CHESTNUT_DATA", ROOT.parent / "shared/data")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "phantom/labels.csv").exists():
        subprocess.run([arguments.chestnut, "phantom", "-n", "1000", "--seed", "1001", "-o", folder / "phantom"], check=True)
    if not (folder / "kermany").exists():
        (folder / "kermany").symlink_to(data / "kermany5856/images")
    rows = []
    for row in csv.DictReader(open(data / "kermany5856/labels.csv")):
        rows.append({"image": "kermany/" + row["image"], "patient_id": row["patient_id"],
                     **{f"{label} (child)": row[label] for label in CHILDREN}})
    for row in csv.DictReader(open(folder / "phantom/labels.csv")):
        rows.append({"image": "phantom/images/" + row["image"], "patient_id": row["patient_id"],
                     **{f"{label} (phantom)": row[label] for label in PHANTOM}})
    labels = [f"{label} (child)" for label in CHILDREN] + [f"{label} (phantom)" for label in PHANTOM]
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "patient_id", *labels], restval="")
        writer.writeheader()
        writer.writerows(rows)
    os.nice(arguments.nice)
    subprocess.run([
        arguments.chestnut, "pretrain", folder / "table.csv", "--images", folder, "--labels", ",".join(labels), "-o", folder / "run",
        "--models", folder / "models", "--replace", "--half", "--name", NAME, "--licence", LICENCE, *OPTIONS,
    ], check=True)


if __name__ == "__main__":
    main()
