"""Reference values of a real network on real radiographs: the Xception of scripts/fetch_xception.sh in Keras.

Writes crates/chestnut-cli/tests/oracle_xception_real.json: names of five NIH images and small vectors only.
    python scripts/oracle_xception_real.py --images FOLDER_WITH_labels.csv_AND_images
The file was saved at 150 x 150; here it runs at 224 x 224 like every network of a study (the weights do not depend on
the size). JPEG decoders differ by one grey level, so the same values are also stored for a formula-made 8-bit image:
    width 320, height 300, index i = y * 320 + x
    value = 20 + ((x*x + 3*y*y + x*y) div 256) mod 160 + floor(16 * u_i), u = unit("image") of scripts/formula.py
    and 255 where x < 8 and y < 5 (a burnt-in marker of 40 pixels, which the clip must remove).
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import PIL
import tensorflow as tf

import formula
import recipe

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE = 224
SHOWN = 16


def network(path):
    """Keras model: (n, 224, 224, 3) -> [embedding, first Dense, logits], with the file's weights."""
    saved = keras.models.load_model(path, compile=False)
    keras.backend.clear_session()
    base = keras.applications.Xception(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    base.set_weights(saved.get_layer("xception").get_weights())
    embedding = keras.layers.GlobalAveragePooling2D()(base.output)
    outputs = [embedding]
    for name in ("dense", "dense_1"):
        old = saved.get_layer(name)
        new = keras.layers.Dense(old.units, activation=old.activation, name=name)
        outputs.append(new(outputs[-1]))
        new.set_weights(old.get_weights())
    return keras.Model(base.input, outputs)


def formula_image():
    y, x = np.mgrid[0:300, 0:320].astype(np.int64)
    noise = np.floor(16 * formula.unit("image", 300 * 320)).astype(np.int64).reshape(300, 320)
    image = 20 + ((x * x + 3 * y * y + x * y) // 256) % 160 + noise
    image[:5, :8] = 255
    return image.astype(np.uint8)


def values_of(model, grey):
    square, clip = recipe.unit_square(grey, SIZE)
    image = recipe.network_input(square)
    embedding, hidden, logits = (np.asarray(out, dtype=np.float64)[0] for out in model(image[None], training=False))
    project = lambda vector: formula.digits(vector @ formula.signed("check", (vector.size,)).astype(np.float64))[0]
    softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    return {
        "width": grey.shape[1],
        "height": grey.shape[0],
        "mean": formula.digits(grey.mean())[0],
        "clip": formula.digits(clip)[0],
        "square": {
            "row_100": formula.digits(square[100, :8]),
            "sum": formula.digits(square.astype(np.float64).sum())[0],
            "check": project(square.astype(np.float64).ravel()),
        },
        "embedding": formula.digits(embedding[:SHOWN]),
        "norm": formula.digits(np.linalg.norm(embedding))[0],
        "sum": formula.digits(embedding.sum())[0],
        "check": project(embedding),
        "hidden_check": project(hidden),
        "logits": formula.digits(logits),
        "softmax": formula.digits(softmax),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "models/pneumonia_xception.keras")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder with labels.csv and images/")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "crates/chestnut-cli/tests/oracle_xception_real.json")
    arguments = parser.parse_args()

    model = network(arguments.model)
    with open(arguments.images / "labels.csv", newline="") as file:
        names = sorted(row["image"] for row in csv.DictReader(file))[:5]
    made = formula_image()
    document = {
        "about": "Made by scripts/oracle_xception_real.py from the model of scripts/fetch_xception.sh. Decoder: Pillow. "
                 "embedding = first 16 of 2048 values; norm, sum, check (dot product with v('check')) are over all; "
                 "square = the recipe's [0,1] image before channels and standardisation, row_100 = its first 8 values.",
        "model_sha256": hashlib.sha256(arguments.model.read_bytes()).hexdigest(),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "pillow": PIL.__version__,
        "head": ["dense: 128, relu", "dense_1: 2, logits of NORMAL, PNEUMONIA"],
        "formula_image": {"pixels_sha256": hashlib.sha256(made.tobytes()).hexdigest(), **values_of(model, made)},
        "images": [{"image": name, **values_of(model, recipe.read_grey(arguments.images / "images" / name))} for name in names],
    }
    text = re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", json.dumps(document, indent=1))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.output.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(arguments.output)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
