#!/usr/bin/env python3
"""Seeds for the fuzz targets in fuzz/corpus/TARGET: small valid files of each kind, and mutated ones.

    python3 fuzz/make_corpus.py [--chestnut target/release/chestnut]

From the fixtures of the tests; from $CHESTNUT_DATA (its dicom, originals and masks folders), where it is set; and, with
the program, from a small made-up study: DICOM in five syntaxes, study.toml, cohort.csv, shards. The DICOM files of
compressed streams are put together here, one for each syntax. Mutations are seeded, so the corpus is always the same. The
standard library is enough.
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
        run("phantom", "-n", "12", "--size", "96", "-o", "phantom")
        for path in sorted((scratch / "phantom/images").glob("*.png"))[:3]:
            add("image", path.name, path.read_bytes())
        run("ingest", "phantom/images", "--labels", "phantom/labels.csv", "-o", "study")
        run("embed", "study", "--net", "seeded:densenet121")
        for name in ["study.toml", "cohort.csv", "rejects.csv"]:
            add("study", name, (scratch / "study" / name).read_bytes())
        for k, path in enumerate(sorted((scratch / "study/embeddings").rglob("*.parquet"))):
            add("shard", f"part{k}.parquet", path.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chestnut", default=str(ROOT / "target/release/chestnut"))
    a = parser.parse_args()
    texts()
    fixtures()
    archives([("a.png", b"\x89PNG\r\n\x1a\nnot much"), ("folder/b", b"DICM" * 20), ("DICOMDIR", b"x")])
    models()
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
