"""Runs `chestnut models export` for all seven networks in ONNX Runtime, against Keras's values.

The values are those of crates/chestnut-nn/tests/oracle_nets.json (scripts/oracle_nets.py), to which parity.rs holds
chestnut itself: formula-made weights and input, both images, every size, head included. Also checks that every tensor
of the exported safetensors file is the formula's, under Keras's name. Needs Python with numpy, onnx and onnxruntime
(CPU), and the built program:
    cargo build --release
    python scripts/oracle_onnx.py [--nets xception,vgg16] [--program target/release/chestnut]
Ends with 1 if anything differs by more than the tolerance.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime

import formula

ROOT = pathlib.Path(__file__).resolve().parent.parent
LABELS = 14
# Of the norm, as in parity.rs; ONNX Runtime folds batch normalisation into convolutions, which rounds differently.
TOLERANCE = 1e-4


def canonical(name):
    """chestnut's name of a tensor that carries Keras's."""
    layer, kind = name.split("/")
    kind = {"depthwise_kernel": "depthwise.kernel", "pointwise_kernel": "pointwise.kernel"}.get(kind, kind)
    return f"{layer}.{kind}"


def read_safetensors(path):
    """{name: float32 array} of a file that holds F32 only."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        if entry["dtype"] != "F32":
            raise SystemExit(f"{path}: {name} is {entry['dtype']}")
        tensors[name] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            out.write(np.ascontiguousarray(value, "<f4").tobytes())


def difference(found, wanted, scale):
    return float(np.abs(np.asarray(found, np.float64) - np.asarray(wanted, np.float64)).max() / scale)


def check(net, reference, chestnut, folder):
    """Largest difference of each kind over sizes and images."""
    plain = folder / "plain.safetensors"
    chestnut("models", "export", f"seeded:{net}", "--safetensors", plain)
    tensors = read_safetensors(plain)
    for name, value in tensors.items():
        if not np.array_equal(value, formula.tensor(canonical(name), value.shape)):
            raise SystemExit(f"{net}: {name} does not hold the formula's values")
    if len(tensors) + 2 != reference["tensors"]["count"]:
        raise SystemExit(f"{net}: {len(tensors)} tensors and a head, Keras has {reference['tensors']['count']}")
    width = reference["runs"][0]["feature_map"][-1]
    for kind, shape in (("kernel", (width, LABELS)), ("bias", (LABELS,))):
        tensors[f"head_0/{kind}"] = formula.tensor(f"head.0.{kind}", shape)
    headed = folder / "headed.safetensors"
    write_safetensors(headed, tensors)
    chestnut("models", "add", headed, "--name", net)

    worst = {}
    for run in reference["runs"]:
        size = run["size"]
        path = folder / f"{net}.onnx"
        chestnut("models", "export", net, "--onnx", path, "--input-size", size, "--replace")
        onnx.checker.check_model(str(path), full_check=True)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        images = formula.signed("input", (run["batch"], size, size, 3)).transpose(0, 3, 1, 2)
        names = ["feature_map", "embedding", "output"]
        maps, embeddings, outputs = session.run(names, {"image": np.ascontiguousarray(images)})
        if list(maps.shape[2:]) + [maps.shape[1]] != run["feature_map"]:
            raise SystemExit(f"{net} at {size}: the feature map is {maps.shape}, Keras's is {run['feature_map']}")
        for image, wanted in enumerate(run["images"]):
            wanted = wanted["f32"]
            embedding = embeddings[image].astype(np.float64)
            checker = formula.signed("check", (embedding.size,)).astype(np.float64)
            shown = len(wanted["embedding"])
            found = {
                "embedding": difference(embedding[:shown], wanted["embedding"], np.abs(wanted["embedding"]).max()),
                "norm": difference(np.linalg.norm(embedding), wanted["norm"], wanted["norm"]),
                "check": difference(embedding @ checker, wanted["check"], wanted["norm"]),
                "probabilities": difference(outputs[image], wanted["probabilities"], 1.0),
                "feature_map": difference(
                    np.abs(maps[image].astype(np.float64)).mean(),
                    wanted["feature_map_mean_abs"],
                    wanted["feature_map_mean_abs"],
                ),
            }
            for kind, value in found.items():
                worst[kind] = max(worst.get(kind, 0.0), value)
        path.unlink()
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(formula.NETS))
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/chestnut")
    arguments = parser.parse_args()
    references = json.loads((ROOT / "crates/chestnut-nn/tests/oracle_nets.json").read_text())["nets"]

    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}; largest differences")
    failed = False
    for net in arguments.nets.split(","):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)

            def chestnut(*words):
                command = [str(arguments.program.resolve()), *map(str, words), "--models", str(folder / "store")]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

            worst = check(net, references[net], chestnut, folder)
        bad = [kind for kind, value in worst.items() if not value <= TOLERANCE]
        failed |= bool(bad)
        numbers = "  ".join(f"{kind} {value:.1e}" for kind, value in worst.items())
        print(f"{net:<20} {numbers}{'  DIFFERS: ' + ', '.join(bad) if bad else ''}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
