"""Orientation for the main job: the same experiment in Keras and scikit-learn.

Real Xception (scripts/fetch_xception.sh) embeddings of the NIH images, a multi-output random forest with the paper's
final values (Table 4; trees on all training images), 20 seeded patient-grouped 70/30 splits, AUC per label. Prints a table; the numbers say in which range a
correct implementation must lie, they are not a target to hit exactly.
    python scripts/oracle_orientation.py --images FOLDER_WITH_labels.csv_AND_images [--output table.txt]
The forest: see FOREST. Splits: GroupShuffleSplit(20, test_size=0.3, random_state=0) over patients, not stratified.
"""

import argparse
import csv
import pathlib

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit

import recipe
from oracle_xception_real import ROOT, SIZE, network

LABELS = ["No_Finding", "Infiltration", "Atelectasis", "Effusion", "Edema"]
FOREST = {"n_estimators": 100, "max_depth": 10, "min_samples_leaf": 4, "min_samples_split": 10, "criterion": "gini", "max_features": "sqrt"}


def embeddings(model, files):
    rows = []
    for start in range(0, len(files), 8):
        batch = [recipe.network_input(recipe.unit_square(recipe.read_grey(file), SIZE)[0]) for file in files[start:start + 8]]
        rows.append(np.asarray(model(np.stack(batch), training=False)[0]))
    return np.concatenate(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/pneumonia_xception.keras")
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--bootstrap", action="store_true", help="draw with replacement (scikit-learn's default; not the authors' code)")
    arguments = parser.parse_args()

    with open(arguments.images / "labels.csv", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
    truth = np.array([[int(row[label]) for label in LABELS] for row in rows])
    patients = np.array([row["patient_id"] for row in rows])
    features = embeddings(network(arguments.model), [arguments.images / "images" / row["image"] for row in rows])

    table = []
    splits = GroupShuffleSplit(arguments.splits, test_size=0.3, random_state=0)
    for number, (train, test) in enumerate(splits.split(features, groups=patients)):
        forest = RandomForestClassifier(**FOREST, bootstrap=arguments.bootstrap, random_state=number, n_jobs=2)
        forest.fit(features[train], truth[train])
        scores = np.stack([part[:, 1] for part in forest.predict_proba(features[test])], axis=1)
        aucs = [roc_auc_score(truth[test][:, k], scores[:, k]) for k in range(len(LABELS))]
        table.append(aucs + [float(np.mean(aucs))])
    table = np.array(table)

    lines = [f"{len(rows)} images, {len(set(patients))} patients; positives: "
             + ", ".join(f"{label} {count}" for label, count in zip(LABELS, truth.sum(axis=0))),
             f"Xception embedding ({features.shape[1]}), RandomForestClassifier({FOREST}, bootstrap={arguments.bootstrap}), "
             f"{arguments.splits} patient-grouped 70/30 splits",
             f"{'split':<8}" + "".join(f"{name:>14}" for name in LABELS + ["mean"])]
    lines += [f"{number:<8}" + "".join(f"{value:>14.3f}" for value in row) for number, row in enumerate(table)]
    for name, row in (("mean", table.mean(0)), ("sd", table.std(0, ddof=1)), ("min", table.min(0)), ("max", table.max(0))):
        lines.append(f"{name:<8}" + "".join(f"{value:>14.3f}" for value in row))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
