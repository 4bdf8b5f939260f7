"""The paper's image recipe with NumPy and TensorFlow, the yardstick for the Rust one.

Steps: grey values -> clip above the 0.9995 quantile (linear interpolation) -> min-max to [0, 1] -> bilinear resize to
size x size, half-pixel centres, no antialias -> three equal channels -> ImageNet mean and standard deviation.
JPEG files are decoded by Pillow (libjpeg-turbo); other decoders differ by one grey level here and there.
"""

import numpy as np
import tensorflow as tf
from PIL import Image

QUANTILE = 0.9995
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def read_grey(path):
    """The image as a (height, width) array of its stored values."""
    with Image.open(path) as image:
        if image.mode not in ("L", "I;16", "I"):
            raise SystemExit(f"{path}: mode {image.mode}, expected a grey image")
        return np.asarray(image)


def unit_square(grey, size):
    """(size x size float32 in [0, 1], the clip value)."""
    values = grey.astype(np.float64)
    clip = np.quantile(values, QUANTILE)
    values = np.minimum(values, clip)
    low, high = values.min(), values.max()
    if high <= low:
        raise SystemExit("a constant image has no range to scale")
    scaled = ((values - low) / (high - low)).astype(np.float32)
    resized = tf.image.resize(scaled[..., None], (size, size), method="bilinear", antialias=False)
    return resized.numpy()[..., 0], float(clip)


def network_input(square):
    """(size, size, 3) float32, standardised."""
    return (np.repeat(square[..., None], 3, axis=-1) - MEAN) / DEVIATION
