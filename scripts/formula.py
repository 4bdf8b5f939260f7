"""Deterministic, formula-made numbers: the weights and inputs of the reference values.

The Rust tests make the same numbers from the same names, bit for bit, so that only small result vectors are
committed and no weights. Nothing here depends on a library's random generator.

A value depends on its tensor's canonical name, the seed and its row-major index in Keras's own layout:
    state = fnv1a64(name) XOR seed
    z     = splitmix64 finaliser of (state + (index + 1) * 0x9E3779B97F4A7C15)
    u     = (z >> 40) / 2^24  in [0, 1), exact in float32;      v = 2u - 1  in [-1, 1), exact in float32
"""

import re

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
NETS = {
    "densenet121": "DenseNet121",
    "densenet169": "DenseNet169",
    "densenet201": "DenseNet201",
    "inception_resnet_v2": "InceptionResNetV2",
    "xception": "Xception",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
}


def fnv1a64(text):
    """FNV-1a, 64 bits, of the UTF-8 bytes."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def unit(name, count, seed=0):
    """`count` float32 values u in [0, 1) for this name."""
    state = np.uint64(fnv1a64(name) ^ seed)
    with np.errstate(over="ignore"):
        z = state + np.arange(1, count + 1, dtype=np.uint64) * GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def signed(name, shape, seed=0):
    """float32 values v in [-1, 1) of this shape for this name."""
    u = unit(name, int(np.prod(shape)), seed)
    return (np.float32(2) * u - np.float32(1)).reshape(shape)


def tensor(name, shape, seed=0):
    """The weight tensor with this canonical name ("<layer>.<kind>") and shape (Keras layout), float32."""
    kind = name.rsplit(".", 1)[1]
    if kind in ("gamma", "moving_variance"):
        u = unit(name, int(np.prod(shape)), seed).reshape(shape)
        return np.float32(0.8) + np.float32(0.4) * u
    v = signed(name, shape, seed)
    if kind in ("bias", "beta", "moving_mean"):
        return v * np.float32(0.1)
    if kind != "kernel":
        raise ValueError(f"no formula for {name}")
    if name.endswith(".depthwise.kernel"):
        gain, fan = 3.0, shape[0] * shape[1]
    elif len(shape) == 4:
        gain, fan = 6.0, shape[0] * shape[1] * shape[2]
    elif len(shape) == 2:
        gain, fan = 6.0, shape[0] + shape[1]
    else:
        raise ValueError(f"no formula for {name} of shape {shape}")
    return v * np.float32(np.sqrt(np.float64(gain) / np.float64(fan)))


def canonical_names(model):
    """[(canonical name, layer, index among the layer's weights)] of every weight of a model, nested models included.

    Unnamed Conv2D and BatchNormalization layers carry session counters (conv2d_203): they are renumbered by rank, so
    that the first one made is `conv2d`, the second `conv2d_1`, whatever was built before in the same session. Dense
    layers are the head: `head.0`, `head.1`, ...
    """
    layers = list(flatten(model))
    renamed = {}
    for stem in ("conv2d", "batch_normalization"):
        counted = []
        for layer in layers:
            found = re.fullmatch(stem + r"(?:_(\d+))?", layer.name)
            if found:
                counted.append((int(found.group(1) or 0), layer.name))
        for rank, (_, name) in enumerate(sorted(counted)):
            renamed[name] = stem if rank == 0 else f"{stem}_{rank}"
    dense = [layer.name for layer in layers if type(layer).__name__ == "Dense"]
    renamed.update({name: f"head.{index}" for index, name in enumerate(dense)})
    names = []
    for layer in layers:
        base = renamed.get(layer.name, layer.name).replace("/", "_")
        for index, weight in enumerate(layer.weights):
            kind = weight.name.split("/")[-1].split(":")[0]
            kind = {"depthwise_kernel": "depthwise.kernel", "pointwise_kernel": "pointwise.kernel"}.get(kind, kind)
            names.append((f"{base}.{kind}", layer, index))
    return names


def flatten(model):
    """The layers with weights, in order, of a model and the models inside it."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from flatten(layer)
        elif layer.weights:
            yield layer


def fill(model, seed=0):
    """Gives every weight of the model its formula value; returns {canonical name: float32 array}."""
    made = {}
    per_layer = {}
    for name, layer, index in canonical_names(model):
        if name in made:
            raise ValueError(f"two tensors are called {name}")
        shape = tuple(int(n) for n in layer.weights[index].shape)
        made[name] = tensor(name, shape, seed)
        per_layer.setdefault(id(layer), (layer, []))[1].append(made[name])
    for layer, values in per_layer.values():
        layer.set_weights(values)
    return made


def digits(values):
    """Numbers with 9 significant digits: enough to give back the same float32."""
    return [float(f"{float(value):.9g}") for value in np.ravel(values)]
