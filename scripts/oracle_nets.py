"""Reference values of the seven networks, computed by Keras/TensorFlow from formula-made weights and input.

Writes crates/chestnut-nn/tests/oracle_nets.json (small vectors only). Needs Python with tensorflow (2.21 was used):
    python scripts/oracle_nets.py [--nets xception,vgg16] [--output FILE]
Every network is run twice: in float32, as Keras users run it, and in float64 with the very same float32 weights and
input. The float64 values are the yardstick for rounding errors (Winograd layers, bf16).
"""

import argparse
import hashlib
import json
import os
import pathlib
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import tensorflow as tf

import formula

ROOT = pathlib.Path(__file__).resolve().parent.parent
LABELS = 14
BATCH = 2
SHOWN = 16


def build(net, size):
    """A fresh network: keras.applications without top, global average pooling, Dense(14, sigmoid)."""
    keras.backend.clear_session()
    maker = getattr(keras.applications, formula.NETS[net])
    base = maker(include_top=False, weights=None, input_shape=(size, size, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="gap")(base.output)
    logits = keras.layers.Dense(LABELS, name="head_dense")(pooled)
    probabilities = keras.layers.Activation("sigmoid", name="head_sigmoid")(logits)
    return keras.Model(base.input, [base.output, pooled, logits, probabilities])


def run(net, size, precision):
    """[feature map, embedding, logits, probabilities] as float64 arrays, and the weights used."""
    keras.config.set_floatx(precision)
    model = build(net, size)
    weights = formula.fill(model)
    images = formula.signed("input", (BATCH, size, size, 3))
    outputs = model(tf.constant(images, dtype=precision), training=False)
    keras.config.set_floatx("float32")
    return [np.asarray(out, dtype=np.float64) for out in outputs], weights


def tensor_summary(weights):
    lines = [f"{name} {'x'.join(str(n) for n in weights[name].shape)}\n" for name in sorted(weights)]
    names = sorted(weights)
    samples = []
    for name in (names[0], names[len(names) // 2], names[-1]):
        index = weights[name].size // 2
        samples.append({"name": name, "index": index, "value": formula.digits(weights[name].ravel()[index])[0]})
    return {
        "count": len(names),
        "parameters": int(sum(value.size for value in weights.values())),
        "sha256": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "samples": samples,
    }


def summary(feature_map, embedding, logits, probabilities):
    check = formula.signed("check", (embedding.size,)).astype(np.float64)
    return {
        "embedding": formula.digits(embedding[:SHOWN]),
        "logits": formula.digits(logits),
        "probabilities": formula.digits(probabilities),
        "norm": formula.digits(np.linalg.norm(embedding))[0],
        "sum": formula.digits(embedding.sum())[0],
        "check": formula.digits(embedding @ check)[0],
        "feature_map_mean_abs": formula.digits(np.abs(feature_map).mean())[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(formula.NETS))
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "crates/chestnut-nn/tests/oracle_nets.json")
    arguments = parser.parse_args()

    nets = {}
    for net in arguments.nets.split(","):
        sizes = [224, 256] + ([299] if net in ("xception", "inception_resnet_v2") else [])
        runs = []
        for size in sizes:
            single, weights = run(net, size, "float32")
            double, _ = run(net, size, "float64")
            images = []
            for image in range(BATCH):
                embedding = single[1][image]
                if not np.isfinite(single[0]).all() or not 1e-3 < np.abs(embedding).max() < 1e3:
                    raise SystemExit(f"{net} at {size}: the embedding is not of a sane scale")
                images.append({
                    "f32": summary(*[part[image] for part in single]),
                    "f64": summary(*[part[image] for part in double]),
                })
            difference = np.linalg.norm(single[1] - double[1]) / np.linalg.norm(double[1])
            shown = {"size": size, "batch": BATCH, "feature_map": list(single[0].shape[1:]),
                     "f32_error": float(f"{difference:.3g}"), "images": images}
            runs.append(shown)
            probabilities = single[3]
            print(f"{net} {size}: map {shown['feature_map']}, embedding mean {single[1].mean():.4g} max {single[1].max():.4g} "
                  f"zero {np.mean(single[1] == 0):.3f}, probabilities {probabilities.min():.3g}..{probabilities.max():.3g}, "
                  f"float32 against float64 {difference:.2e}", flush=True)
        nets[net] = {"tensors": tensor_summary(weights), "runs": runs}

    document = {
        "about": "Made by scripts/oracle_nets.py: Keras outputs for formula-made weights and input (scripts/formula.py). "
                 "embedding = first 16 values; norm, sum, check (dot product with v('check')) are over the whole embedding; "
                 "tensors.sha256 is over the sorted lines 'name AxBxC\\n'; f32_error = relative L2 error of Keras's float32 embeddings against float64.",
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "nets": nets,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1)
    # Short lists of numbers on one line: the file stays readable and small.
    text = re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", text)
    partial = arguments.output.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(arguments.output)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
