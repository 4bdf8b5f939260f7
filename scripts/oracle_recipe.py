#!/usr/bin/env python3
"""Reference values for the recipe, from NumPy and TensorFlow.

Writes crates/chestnut/tests/oracle_recipe.json: formula-made images (no real data) after clip
(numpy.quantile), scale and tf.image.resize(bilinear, antialias=False), and Keras's three
preprocess_input modes on a short ramp. Needs numpy and tensorflow; run it only when the recipe changes:

    python scripts/oracle_recipe.py
"""

import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from tensorflow.keras.applications.imagenet_utils import preprocess_input

BITS = 12
OUT = pathlib.Path(__file__).resolve().parent.parent / "crates/chestnut/tests/oracle_recipe.json"


def formula(width, height):
    """The same image as `formula` in crates/chestnut/src/image/recipe/tests.rs; a few pixels are outliers."""
    y, x = np.mgrid[0:height, 0:width]
    v = (x * 37 + y * 101 + (x * y) % 17 * 13) % 1021
    return np.where((x * 7 + y * 3) % 211 == 0, v + 3000, v + 50).astype(np.float64)


def case(width, height, clip_quantile, scale, size):
    image = formula(width, height)
    clip = float(np.quantile(image, clip_quantile))
    image = np.minimum(image, clip)
    if scale == "min-max":
        image = (image - image.min()) / (image.max() - image.min())
    elif scale == "bits":
        image = np.clip(image / (2**BITS - 1), 0, 1)
    grey = tf.image.resize(image.astype(np.float32)[..., None], (size, size), method="bilinear", antialias=False)
    return {
        "width": width,
        "height": height,
        "clip_quantile": clip_quantile,
        "scale": scale,
        "size": size,
        "clip_value": clip,
        # Nine digits name a single-precision number.
        "grey": [float(f"{v:.9g}") for v in grey.numpy().ravel()],
    }


def standardised(name, mode):
    grey = np.linspace(0, 1, 5, dtype=np.float32)
    rgb = np.repeat(grey[:, None], 3, axis=1)[None, None] * np.float32(255)
    if mode is not None:
        out = preprocess_input(rgb.copy(), mode=mode)
    elif name == "torchxrayvision":
        # torchxrayvision.utils.normalize(x, 255) = (2 x / 255 - 1) * 1024, one channel.
        out = ((2 * (grey * 255 / 255) - 1) * 1024)[None]
    else:
        out = rgb / 255
    values = np.asarray(out, dtype=np.float32).ravel()
    return {
        "name": name,
        "grey": [float(v) for v in grey],
        "out": [float(f"{v:.9g}") for v in values],
    }


oracle = {
    "made_by": f"scripts/oracle_recipe.py, numpy {np.__version__}, tensorflow {tf.__version__}",
    "cases": [
        case(37, 53, 0.9995, "min-max", 16),
        case(53, 37, 0.99, "min-max", 9),
        case(40, 33, 1.0, "bits", 16),
        case(16, 12, 0.9, "min-max", 21),
        case(300, 280, 0.9995, "none", 14),
        case(224, 224, 0.9995, "min-max", 12),
    ],
    "standardised": [
        standardised("imagenet", "torch"),
        standardised("keras-tf", "tf"),
        standardised("keras-caffe", "caffe"),
        standardised("torchxrayvision", None),
        standardised("none", None),
    ],
}
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(oracle, separators=(",", ":")) + "\n")
print(f"wrote {OUT.name}: {len(oracle['cases'])} cases")
