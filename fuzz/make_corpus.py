#!/usr/bin/env python3
"""Seeds for the fuzz targets in fuzz/corpus/TARGET: small valid files of each kind, and mutated ones.

    python3 fuzz/make_corpus.py [--chestnut target/release/chestnut]

From the fixtures of the tests; from $CHESTNUT_DATA (its dicom, originals and masks folders), where it is set; and, with
the program, from a small made-up study: DICOM in five syntaxes, study.toml, cohort.csv, shards, metrics, models. The DICOM
files of compressed streams are put together here, one for each syntax, and so are small files of a kind that a study keeps.
Mutations are seeded, so the corpus is always the same. The standard library is enough.
"""

import argparse
import io
import json
import os
import pathlib
import random
import struct
import subprocess
import tarfile
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
LARGEST = 1 << 18
MUTATIONS = 4


def add(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    draw = random.Random(f"{target}/{name}")
    for k in range(MUTATIONS):
        mutated = bytearray(content)
        for _ in range(1 + draw.randrange(8)):
            if mutated:
                mutated[draw.randrange(len(mutated))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])
        if k == 0 and mutated:
            del mutated[draw.randrange(len(mutated)):]
        (folder / f"{name}-{k}").write_bytes(bytes(mutated))


def element(tag, vr, value):
    if len(value) % 2:
        value += b"\0" if vr in (b"UI", b"OB") else b" "
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"OB", b"OW", b"SQ", b"UN"):
        return head + b"\0\0" + struct.pack("<I", len(value)) + value
    return head + struct.pack("<H", len(value)) + value


def compressed_dicom(stream):
    """The 32 x 32 pixels of a stream of crates/chestnut/tests/oracle_dicom.json as a file."""
    short = lambda n: struct.pack("<H", n)
    meta = element(0x00020010, b"UI", stream["syntax"].encode())
    bits = 8 if stream["bits"] <= 8 else 16
    out = bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta
    out += element(0x00080060, b"CS", b"DX") + element(0x00280002, b"US", short(1))
    out += element(0x00280004, b"CS", b"MONOCHROME2")
    for tag, value in [(0x00280010, 32), (0x00280011, 32), (0x00280100, bits), (0x00280101, stream["bits"]),
                       (0x00280102, stream["bits"] - 1), (0x00280103, int(stream["signed"]))]:
        out += element(tag, b"US", short(value))
    data = bytes.fromhex(stream["hex"])
    data += b"\0" * (len(data) % 2)
    out += b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0"
    return out + b"\xfe\xff\x00\xe0" + struct.pack("<I", len(data)) + data + b"\xfe\xff\xdd\xe0\0\0\0\0"


def archives(members):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    add("archive", "small.zip", packed.getvalue())
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    add("archive", "stored.zip", stored.getvalue())
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=kind) as archive:
            for name, content in members:
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        add("archive", f"format{kind}.tar", packed.getvalue())


def texts():
    add("table", "plain.csv", b"image,patient_id,view,Pleura,Lung\na.png,1,PA,1,0\nb.png,2,AP,,-1\n")
    add("table", "excel.csv", "\ufeffAccessionNumber;Età;Pleura;Lung\r\n0012;61,5;si;no\r\n13;;?;\"a;b\"\r\n".encode())
    add("table", "latin1.txt", "Study Instance UID\tPleura\tLung\n1.2.3.4\tsì\tno\n".encode("latin-1"))
    add("table", "utf16.csv", "image,Pleura,Lung\na,1,0\n".encode("utf-16"))
    add("table", "quoted.csv", b"image,Pleura,Lung\n\"a\nb\",\"1\",0\n\"unclosed,1,0\n")
    runs = {"a": {"PNX": {"size": [50, 40], "counts": [0, 50, 1950]}, "Lung Opacity": {"size": [50, 40], "counts": "6"}}}
    add("experts", "runs.json", json.dumps(runs).encode())
    coco = {"images": [{"id": 7, "file_name": "a.png", "width": 50, "height": 40}],
            "categories": [{"id": 1, "name": "PNX"}],
            "annotations": [{"image_id": 7, "category_id": 1, "segmentation": [[10, 10, 20, 10, 20, 20]], "bbox": [0, 0, 1, 1]},
                            {"image_id": 7, "category_id": 1, "segmentation": {"size": [40, 50], "counts": "0d1"}}]}
    add("experts", "coco.json", json.dumps(coco).encode())
    polygons = {"a": {"img_size": [40, 50], "PNX": [[[1, 1], [9, 1], [9, 9]]]}}
    add("experts", "polygons.json", json.dumps(polygons).encode())
    add("experts", "boxes.csv", b"image,label,x,y,w,h\na.png,PNX,1,2,3,4\nsub/b,Lung,0,0,50,40\n")
    add("settings", "rules.toml", (ROOT / "crates/chestnut/src/cohort/rules.toml").read_bytes())
    add("settings", "labels.toml", b"name = \"ward\"\nlabels = [\"A\", \"B\"]\nblank = \"negative\"\n[blank_for]\nA = \"exclude\"\n"
        b"[columns]\nB = [\"b_yn\"]\n[values]\npositive = [\"ja\"]\n")
    add("settings", "blank.toml", b"[[region]]\nmanufacturer = \"x\"\nrows = 9\npixels = [0, 0, 9, 9]\n[[region]]\nshare = [0.0, 0.0, 0.5, 0.1]\n")
    add("settings", "grid.toml", b"learner = \"random-forest\"\ntrees = [3, 9]\nmax_depth = [2]\nmin_samples_split = [2]\n"
        b"min_samples_leaf = [1]\ncriterion = [\"gini\"]\nmax_features = [\"sqrt\"]\nbootstrap = [false]\n")


def models():
    """One model file of each kind, by hand: two features, two labels."""
    hashed = "0" * 64
    head = {"format_version": 1, "chestnut": "0.1.0", "labels": ["PNX", "Lung"], "recipe_hash": hashed,
            "inputs": [{"network": "xception", "weights_sha256": hashed, "width": 2}]}
    params = {"learner": "random-forest", "trees": 1, "max_depth": 2, "min_samples_split": 2, "min_samples_leaf": 1,
              "max_features": "sqrt", "criterion": "gini", "bootstrap": False, "class_weight": "none", "seed": 0}
    leaf = {"feature": 2**32 - 1, "threshold": 0.0, "right": 0, "rows": 2, "weight": 2.0, "gain": 0.0}
    root = {"feature": 1, "threshold": 0.5, "right": 2, "rows": 4, "weight": 4.0, "gain": 1.0}

    def forest(outputs):
        tree = {"nodes": [root, leaf, leaf], "shares": [0.5] * (3 * outputs)}
        return {"params": params, "width": 2, "outputs": outputs, "trees": [tree]}

    probe = {"width": 2, "outputs": 2, "lambdas": [1.0, 0.1], "weights": [0.1, -0.2, 0.3, 0.4], "intercepts": [0.0, 1.0]}
    for name, model in [("forest", forest(2)), ("single-forests", [forest(1), forest(1)]), ("linear-probe", probe)]:
        add("forest_model", f"{name}.json", json.dumps({**head, "model": {name: model}}).encode())
    kept_files(params)


# What the first byte of an input of the targets kept and pretrain means.
KEPT = ["index", "tuned", "scores", "finetuned", "metrics", "manifest", "summary", "lock", "key"]
PRETRAIN = ["csv", "split", "chexpert", "nih14", "patients", "squares", "windows", "checkpoint"]


def add_kept(kind, name, content):
    add("kept", f"{kind}-{name}", bytes([KEPT.index(kind)]) + content)


def add_pretrain(kind, name, content):
    add("pretrain", f"{kind}-{name}", bytes([PRETRAIN.index(kind)]) + content)


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def kept_files(params):
    """Files of a study by hand; whatever is asked of them stands in crates/chestnut/src/fuzzing.rs."""
    best = {"params": params, "mean": 0.5, "sd": 0.1, "labels": [0.5, None], "not_estimable": 0}
    add_kept("tuned", "one.json", compact([{"network": "n", "best": best, "settings": 1, "training": "0"}]))
    add_kept("scores", "two.json", b"[[0.5,null],[1.0,0.25]]")
    options = {"depth": "block", "epochs": 2, "batch": 16, "rate": 1e-4, "cosine": True, "patience": 5, "weight_decay": 0.0,
               "norms": False, "folds": True}
    fits = [{"start_auc": 0.5, "epochs": [{"loss": 0.1, "validation_auc": None}], "best": 0}]
    record = {"version": "0.1.0", "network": "n", "options": options, "key": "k", "labels": ["PNX", "Lung"], "fits": fits,
              "predictions": {"a.png": [0.5, 0.25]}}
    add_kept("finetuned", "one.json", compact(record))
    stage = {"seconds": 78.4, "facts": {"weights_sha256": "abc", "tta": "five"}}
    add_kept("manifest", "two.json", compact({"version": "0.1.0", "stages": {"ingest": stage, "embed net": stage}}))
    grid = {"title": "T", "note": "n", "head": ["a", "b"], "rows": [["1", "2"], ["3"]]}
    summary = {"format_version": 1, "cohort_hash": "0", "split": "", "facts": ["7 images"], "shortcuts": ["look"],
               "tables": [grid], "maps": [{"path": "top.png", "words": "w"}]}
    add_kept("summary", "one.json", compact(summary))
    add_kept("lock", "one.toml", b"pid = 7\ncommand = \"tune\"\ncomputer = \"c\"\nsince = \"2026-01-01 00:00:00\"\n")
    add_kept("key", "hex", b"0f" * 32 + b"\n")
    conditional = b"[conditional]\nB = \"A\"\n"
    head = b"[head]\nlabels = [\"A\", \"B\"]\n[[head.layers]]\nunits = 2\nactivation = \"sigmoid\"\n"
    add("settings", "model.toml", b"name = \"net\"\narchitecture = \"vgg16\"\nchannels = 3\nstandardisation = \"imagenet\"\n"
        b"input_size = 224\nsource_file = \"a.h5\"\nsource_format = \"keras-v3\"\nsource_sha256 = \"0\"\nweights_sha256 = \"" + b"0" * 64 + b"\"\n"
        b"licence = \"CC0\"\nnotes = []\nadded_by_version = \"0.1.0\"\n" + head + conditional)


def pretrain_files():
    add_pretrain("csv", "plain.csv", b"image,patient_id,Pleura,Lung\na.png,1,1,0\nsub/b.png,2,,-1\n./c.png,3,yes,no\n")
    add_pretrain("csv", "out.csv", b"image,patient_id,Pleura,Lung\n../a.png,1,1,0\n")
    add_pretrain("split", "plain.csv", b"path;patient;split;Pleura;Lung\na.png;1;train;1;0\nb.png;2;val;0;1\nc.png;3;test;0;0\n")
    labels = ["No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
              "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"]
    rows = ["Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(labels),
            "set/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
            "set/train/patient00002/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,"]
    add_pretrain("chexpert", "train.csv", "\n".join(rows).encode())
    add_pretrain("nih14", "entry.csv", b"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\n"
                 b"1.png,Cardiomegaly|Emphysema,0,1,58,M,PA,\n2.png,No Finding,0,2,81,M,AP,\n")
    add_pretrain("patients", "list.txt", "\ufeff# test patients\n1\n 9 \n".encode())
    entry = b"\x01" + struct.pack("<QQ", 7, 1 << 60) + bytes(32)
    head = b"chestnut squares" + struct.pack("<IIQ", 2, 8, 2) + bytes(range(32))
    add_pretrain("squares", "two.bin", head + 2 * entry + bytes(128))
    add_pretrain("windows", "four.bin", b"0" * 64 + struct.pack("<8H", 4, 8, 0, 32, 1, 1, 2, 2))
    settings = {"network": "densenet121", "labels": ["A"], "start": "seed", "freeze": [], "images": "0", "size": 32,
                "crop": "centre", "template": None, "standardisation": "none",
                "augment": {"rotation": 7.0, "scale": 0.02, "shear": 2.0, "flip": False},
                "policies": {"uncertain": "ignore", "blank": "ignore", "propagate": False, "conditional": False},
                "positive_weights": False, "balanced": False, "validation": 0.1, "batch": 3, "accumulate": 1, "epochs": 4,
                "patience": 4, "schedule": {"rate": 0.5, "shape": {"steps": {"factor": 0.5}}, "warm_up": 2},
                "update": {"adam": {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7}, "weight_decay": 0.0, "momentum": 0.99,
                           "unbiased_variance": False},
                "ema": 0.9, "seed": 5}
    epoch = {"epoch": 0, "rate": 1e-4, "loss": 0.3, "validation_loss": None, "auc": 0.5, "aucs": [0.5]}
    place = {"epoch": 1, "batch": 2, "taken": 2, "loss": 0.25, "step": 5, "history": [epoch], "log_bytes": 99}
    texts = {"chestnut.pretrain.settings": json.dumps(settings), "chestnut.pretrain.place": json.dumps(place)}
    header = {"__metadata__": texts}
    for k, kind in enumerate(["weights", "mean", "square", "average"]):
        header[f"{kind}/head.0.kernel"] = {"dtype": "F32", "shape": [2], "data_offsets": [8 * k, 8 * k + 8]}
    header = compact(header)
    add_pretrain("checkpoint", "small", struct.pack("<Q", len(header)) + header + struct.pack("<8f", *range(8)))


def fixtures():
    streams = json.loads((ROOT / "crates/chestnut/tests/oracle_dicom.json").read_text())["streams"]
    for k, stream in enumerate(streams):
        add("dicom", f"stream{k}.dcm", compressed_dicom(stream))
        if stream["syntax"].endswith("4.50"):
            add("image", "grey.jpg", bytes.fromhex(stream["hex"]))
    for archive in sorted((ROOT / "crates/chestnut-zoo/tests/fixtures").glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                content = opened.read(name)
                if not name.endswith("/") and len(content) <= LARGEST:
                    add(weights_target(content), name.replace("/", "_"), content)


def weights_target(content):
    if content.startswith(b"\x89HDF"):
        return "hdf5"
    return "safetensors" if content[8:9] == b"{" else "torch"


def data(folder):
    for path in sorted(folder.glob("dicom/files/*")):
        content = path.read_bytes()
        # Of larger files the beginning: headers are where readers differ.
        add("dicom", path.name, content if len(content) <= LARGEST else content[: 1 << 15])
    for path in sorted(folder.glob("originals/files/*")) + sorted(folder.glob("masks/covid_cc_radiologist/*"))[:8]:
        content = path.read_bytes()
        if path.is_file() and len(content) <= LARGEST:
            add("dicom" if content[128:132] == b"DICM" else "image", path.name, content)


def cut(metrics):
    """A comparison of two rows and two labels, so that a mutation meets something new; its lists still fit each other."""
    few = 2
    names = metrics["labels"] = metrics["labels"][:few]
    metrics["methods"] = metrics["methods"][:few]
    for part in ["details", "differences", "subgroups"]:
        metrics[part] = metrics[part][:1]
    known = {m["approach"] for m in metrics["methods"]}
    metrics["learning"] = [p for p in metrics["learning"] if p["approach"] in known][:4]
    for item in metrics["methods"] + metrics["details"] + metrics["differences"] + metrics["learning"]:
        item["labels"] = item["labels"][:few]
        if item.get("spread"):
            item["spread"]["labels"] = item["spread"]["labels"][:few]
    for detail in metrics["details"]:
        for label in detail["labels"]:
            label["decision"] = label["decision"][:5]
    for groups in metrics["subgroups"]:
        groups["rows"] = [r for r in groups["rows"] if r["label"] in names]
    return metrics


def study(binary):
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)

        def run(*args):
            done = subprocess.run([binary, *args], cwd=scratch, capture_output=True, text=True,
                                  env={"CHESTNUT_MODELS": str(scratch / "models"), "PATH": "/usr/bin:/bin"})
            if done.returncode not in (0, 2):
                raise SystemExit(f"{args}: {done.stderr}")

        run("phantom", "--hospital-export", "60", "-n", "4", "--size", "128", "-o", "export")
        members = []
        for k, path in enumerate(sorted(p for p in (scratch / "export/images").rglob("*") if p.is_file())[:20]):
            add("dicom", f"export{k}", path.read_bytes())
            members.append((f"disc/{path.name}", path.read_bytes()[:3000]))
        archives(members[:3] + [("labels.csv", (scratch / "export/labels.csv").read_bytes())])
        add("table", "export.csv", (scratch / "export/labels.csv").read_bytes())
        run("phantom", "-n", "40", "--size", "96", "--seed", "3", "--masks", "-o", "phantom")
        for path in sorted((scratch / "phantom/images").glob("*.png"))[:3]:
            add("image", path.name, path.read_bytes())
        run("ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", "study")
        run("embed", "study", "--net", "seeded:densenet121")
        for name in ["study.toml", "cohort.csv", "rejects.csv"]:
            add("study", name, (scratch / "study" / name).read_bytes())
        for k, path in enumerate(sorted((scratch / "study/embeddings").rglob("*.parquet"))):
            add("shard", f"part{k}.parquet", path.read_bytes())
        for path in sorted((scratch / "phantom/masks").glob("*.png"))[:3]:
            add("experts", path.name, path.read_bytes())
        run("compare", "study", "--approach", "embeddings", "--learning-curve", "2")
        add("study", "split.csv", (scratch / "study/split.csv").read_bytes())
        index = json.loads((scratch / "study/models/index.json").read_text())
        add_kept("index", "study.json", compact({**index, "approaches": index["approaches"][:1]}))
        add_kept("metrics", "study.json", compact(cut(json.loads((scratch / "study/metrics.json").read_text()))))
        add_kept("manifest", "study.json", (scratch / "study/manifest.json").read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chestnut", default=str(ROOT / "target/release/chestnut"))
    a = parser.parse_args()
    texts()
    fixtures()
    archives([("a.png", b"\x89PNG\r\n\x1a\nnot much"), ("folder/b", b"DICM" * 20), ("DICOMDIR", b"x")])
    models()
    pretrain_files()
    folder = os.environ.get("CHESTNUT_DATA")
    if folder:
        data(pathlib.Path(folder))
    else:
        print("CHESTNUT_DATA is not set: no seeds from real files")
    if pathlib.Path(a.chestnut).is_file():
        study(a.chestnut)
    else:
        print(f"{a.chestnut} is missing: no seeds from a made-up study")
    for target in sorted(CORPUS.iterdir()):
        files = list(target.iterdir())
        print(f"{target.name}: {len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main()
