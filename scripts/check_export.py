#!/usr/bin/env python3
"""Holds a study to the truth of a hospital export: every file and every row, none more, none less.

    chestnut phantom --hospital-export 10000 -o export
    chestnut ingest export/images --labels export/labels.csv --label-set export/label_set.toml -o study
    python scripts/check_export.py export study

cohort.csv must hold the files that truth.csv calls used, with their patient's pseudonym (by the study's own key), view,
age, sex, size, hash, row and labels; rejects.csv the others and the refused rows, with stage, row and reason. Prints the
counts; ends with 1 and the first differences if anything differs. The standard library is enough.
"""

import collections
import csv
import hashlib
import hmac
import pathlib
import sys

SHOWN = 20
COMPARED = ["row", "view", "age_years", "sex", "width", "height", "sha256"]
FIXED = 12


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def key_of(study):
    """The 32 bytes of the pseudonym key, stored as they are or in hexadecimal."""
    path = pathlib.Path(study) / ".pseudonym-key"
    if not path.is_file():
        return None
    content = path.read_bytes()
    return content if len(content) == 32 else bytes.fromhex(content.decode().strip())


def pseudonym(key, patient):
    if key is None:
        return patient
    return "P" + hmac.new(key, patient.encode(), hashlib.sha256).hexdigest()[:12]


def differences(export, study):
    truth = read(pathlib.Path(export) / "truth.csv")
    cohort = read(pathlib.Path(study) / "cohort.csv")
    rejects = read(pathlib.Path(study) / "rejects.csv")
    key = key_of(study)
    labels = list(cohort[0])[FIXED:] if cohort else []
    images = {row["image"]: row for row in cohort}
    refused = collections.defaultdict(list)
    for row in rejects:
        refused[row["item"]].append(row)
    if len(images) != len(cohort):
        yield "cohort.csv holds an image twice"
    for true in truth:
        item = true["item"]
        if true["verdict"] == "used":
            found = images.pop(item, None)
            if found is None:
                why = refused.get(item, [{"reason": "it is nowhere"}])[0]["reason"]
                yield f"{item}: must be used, but {why}"
                continue
            for column in COMPARED + labels:
                if found[column] != true[column]:
                    yield f"{item}: {column} is {found[column]!r}, true is {true[column]!r}"
            if found["patient"] != pseudonym(key, true["patient_id"]):
                yield f"{item}: another patient than the header's"
            continue
        if not refused[item]:
            where = "used" if item in images else "nowhere"
            yield f"{item}: must be refused ({true['stage']}: {true['reason']}), but is {where}"
            continue
        found = refused[item].pop(0)
        for column in ["row", "stage"]:
            if found[column] != true[column]:
                yield f"{item}: {column} is {found[column]!r}, true is {true[column]!r} ({found['reason']})"
        for part in [true["reason"], true["kept"]]:
            if part not in found["reason"]:
                yield f"{item}: the reason {found['reason']!r} does not say {part!r}"
    for item in images:
        yield f"{item}: used, and the truth does not know it"
    for item, rows in refused.items():
        for row in rows:
            yield f"{item}: refused, and the truth does not know it ({row['reason']})"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    export, study = sys.argv[1:]
    counts = collections.Counter((row["verdict"], row["stage"]) for row in read(pathlib.Path(export) / "truth.csv"))
    for (verdict, stage), count in sorted(counts.items()):
        print(f"{count:7} {verdict}{f' at stage {stage}' if stage else ''}")
    wrong = list(differences(export, study))
    for line in wrong[:SHOWN]:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"{len(wrong)} differences from the truth")
    print(f"all {sum(counts.values())} items as they must be")


if __name__ == "__main__":
    main()
