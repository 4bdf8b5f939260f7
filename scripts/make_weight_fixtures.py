"""Weight files in every Keras container format, for the tests of the readers.

    python scripts/make_weight_fixtures.py           tiny models -> crates/chestnut-zoo/tests/fixtures/weight_files.zip
                                                     and expected.json beside it (both committed, 80 KB)
    python scripts/make_weight_fixtures.py --full    four real networks -> models/formula/ (git-ignored, about 1.6 GB)

Needs tensorflow, tf_keras (the Keras 2 code, which writes the legacy files) and safetensors. All weights are
formula-made (formula.py) under their canonical names, so that a test can check every value without a second copy.
The tiny model is none of the seven networks; it holds one of each kind of layer that matters: Keras 2 names with '/',
a batch normalisation without gamma, a separable convolution, and unnamed layers whose order in the file (by depth)
differs from the order in which they were made, as in InceptionResNetV2.
`keras2` files are written in a used session, so their unnamed layers start at conv2d_3 and the like.
"""

import argparse
import json
import os
import pathlib
import tempfile
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import h5py
import keras
import numpy as np
import tf_keras
from safetensors.numpy import save_file

import formula

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "crates/chestnut-zoo/tests/fixtures"
STAMP = (1980, 1, 1, 0, 0, 0)
FULL = ["densenet121", "vgg16", "xception", "inception_resnet_v2"]
SIZE = 12
LABELS = 14


def fresh(library):
    """Starts the counters of unnamed layers anew; for Keras 2 then uses some up, as in a notebook."""
    library.backend.clear_session()
    if library is tf_keras:
        for _ in range(3):
            image = library.Input((8, 8, 3))
            library.layers.BatchNormalization()(library.layers.Conv2D(1, 1)(image))
            library.layers.GlobalAveragePooling2D()(image)
            library.layers.Dense(1)(library.layers.Flatten()(image))


def tiny_base(library, top):
    """The tiny convolutional model; with `top` it ends in pooling and Dense(3, sigmoid)."""
    layers = library.layers
    slash = "/" if library is tf_keras else "_"
    image = library.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, use_bias=False, name=f"conv1{slash}conv")(image)
    x = layers.BatchNormalization(epsilon=1.001e-5, name=f"conv1{slash}bn")(x)
    x = layers.Activation("relu", name=f"conv1{slash}relu")(x)
    x = layers.SeparableConv2D(5, 3, padding="same", use_bias=False, name="block2_sepconv1")(x)
    # Made first, but listed after the longer branch: model.layers is sorted by depth.
    short = layers.Conv2D(2, 1, use_bias=False)(x)
    short = layers.BatchNormalization(scale=False)(short)
    long = layers.Conv2D(3, (1, 3), padding="same")(x)
    long = layers.BatchNormalization(scale=False)(long)
    long = layers.Activation("relu")(long)
    x = layers.Concatenate(name="mixed")([short, long])
    if top:
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(3, activation="sigmoid")(x)
    return library.Model(image, x, name="tiny")


def nested(library):
    """The tiny model inside another one, with two Dense layers behind it."""
    image = library.Input((SIZE, SIZE, 3))
    x = tiny_base(library, top=False)(image)
    x = library.layers.GlobalAveragePooling2D()(x)
    x = library.layers.Dense(5, activation="relu")(x)
    x = library.layers.Dropout(0.3)(x)
    x = library.layers.Dense(2)(x)
    return library.Model(image, x)


def sequential(library):
    """The tiny model as the first layer of a Sequential, as many notebooks have it."""
    model = library.Sequential([
        tiny_base(library, top=False),
        library.layers.GlobalAveragePooling2D(),
        library.layers.Dense(3, activation="sigmoid"),
    ])
    model.build((None, SIZE, SIZE, 3))
    return model


def split_attributes(source, target, chunk):
    """Rewrites a legacy file with fixed-length strings cut into layer_names0, layer_names1, ... as Keras does above
    64,512 bytes per attribute; here the limit is `chunk` names."""
    with h5py.File(source, "r") as old, h5py.File(target, "w") as new:
        for key, value in old.attrs.items():
            new.attrs[key] = value
        for key in old:
            old.copy(key, new)
        for holder, key in [(new, "layer_names")] + [(new[name], "weight_names") for name in decoded(new, "layer_names")]:
            names = [name.encode() for name in decoded(holder, key)]
            del holder.attrs[key]
            if names:
                for number, start in enumerate(range(0, len(names), chunk)):
                    holder.attrs[f"{key}{number}"] = np.array(names[start:start + chunk], dtype=f"S{max(map(len, names))}")
            else:
                holder.attrs[key] = np.zeros(0, dtype="float64")


def decoded(holder, key):
    return [name.decode() if isinstance(name, bytes) else str(name) for name in holder.attrs[key]]


def expected(model):
    """What a reader must find, in the order of model.layers."""
    found = []
    for name, layer, index in formula.canonical_names(model):
        weight = layer.weights[index]
        values = np.asarray(layer.get_weights()[index])
        found.append({
            "canonical": name,
            "layer": layer.name,
            "class": type(layer).__name__,
            "kind": weight.name.split("/")[-1].split(":")[0],
            "shape": [int(n) for n in values.shape],
            "first": formula.digits(values.ravel()[:3]),
        })
    return found


def write_json(path, document):
    """One line per tensor."""
    files = ",\n".join(f"  {json.dumps(name)}: {json.dumps(content)}" for name, content in document["files"].items())
    models = ",\n".join(
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"   {json.dumps(tensor)}" for tensor in tensors) + "\n  ]"
        for name, tensors in document["models"].items())
    about = json.dumps(document["about"])
    path.write_text(f'{{\n "about": {about},\n "files": {{\n{files}\n }},\n "models": {{\n{models}\n }}\n}}\n')


def tiny_fixtures(folder):
    document = {
        "about": "Made by scripts/make_weight_fixtures.py. Every tensor holds the formula values of its canonical name "
                 "(scripts/formula.py, seed 0); first = its first three values. layer, kind and order are those of the file's own "
                 "model; files without a configuration (weights only) may give another order.",
        "files": {},
        "models": {},
    }

    def record(name, description, model):
        tensors = expected(model)
        same = [key for key, value in document["models"].items() if value == tensors]
        key = same[0] if same else pathlib.Path(name).stem.split(".")[0]
        document["models"][key] = tensors
        document["files"][name] = {"model": key, "what": description}

    fresh(tf_keras)
    model = tiny_base(tf_keras, top=True)
    formula.fill(model)
    model.save_weights(folder / "tiny_keras2_weights.h5")
    record("tiny_keras2_weights.h5", "Keras 2 save_weights: legacy HDF5, weights only", model)
    split_attributes(folder / "tiny_keras2_weights.h5", folder / "tiny_keras2_split.h5", 4)
    record("tiny_keras2_split.h5", "the same, attributes cut into layer_names0.., weight_names0.. (fixed-length strings)", model)
    model.save(folder / "tiny_keras2.keras")
    record("tiny_keras2.keras", "Keras 2 .keras archive", model)
    model.compile(tf_keras.optimizers.SGD(momentum=0.9), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(folder / "tiny_keras2_model.hdf5")
    record("tiny_keras2_model.hdf5", "Keras 2 model.save: legacy HDF5, whole model with optimizer_weights", model)

    fresh(tf_keras)
    model = sequential(tf_keras)
    formula.fill(model)
    model.save(folder / "tiny_keras2_sequential.h5")
    record("tiny_keras2_sequential.h5", "Keras 2 Sequential around the model: one flat weight_names list for the inner model", model)

    fresh(keras)
    model = tiny_base(keras, top=True)
    weights = formula.fill(model)
    model.save(folder / "tiny_keras3_model.h5")
    record("tiny_keras3_model.h5", "Keras 3 model.save to legacy HDF5", model)
    model.save_weights(folder / "tiny_keras3.weights.h5")
    record("tiny_keras3.weights.h5", "Keras 3 save_weights", model)
    model.save(folder / "tiny_keras3.keras")
    record("tiny_keras3.keras", "Keras 3 archive", model)
    save_file(weights, folder / "tiny.safetensors")
    record("tiny.safetensors", "safetensors under canonical names", model)

    fresh(keras)
    model = nested(keras)
    formula.fill(model)
    model.save(folder / "tiny_keras3_nested.keras")
    record("tiny_keras3_nested.keras", "Keras 3 archive: model inside a model, Dense(5, relu), Dropout, Dense(2, linear) behind it", model)
    model.save_weights(folder / "tiny_keras3_nested.weights.h5")
    record("tiny_keras3_nested.weights.h5", "its weights only", model)
    model.save(folder / "tiny_keras3_nested.h5")
    record("tiny_keras3_nested.h5", "the same model as legacy HDF5 by Keras 3", model)

    # HDF5 files are mostly zeros: one deflated archive keeps the repository small.
    FIXTURES.mkdir(parents=True, exist_ok=True)
    write_json(FIXTURES / "expected.json", document)
    with zipfile.ZipFile(FIXTURES / "weight_files.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, STAMP)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
            print(f"{file.stat().st_size:>8} {file.name}")
    for name in ("expected.json", "weight_files.zip"):
        print(f"{(FIXTURES / name).stat().st_size:>8} {name}")


def full_files():
    folder = ROOT / "models/formula"
    folder.mkdir(parents=True, exist_ok=True)
    for net in FULL:
        for library, endings in ((keras, (".keras", ".h5", ".weights.h5")), (tf_keras, (".legacy.hdf5",))):
            fresh(library)
            base = getattr(library.applications, formula.NETS[net])(include_top=False, weights=None, input_shape=(224, 224, 3))
            pooled = library.layers.GlobalAveragePooling2D()(base.output)
            model = library.Model(base.input, library.layers.Dense(LABELS, activation="sigmoid")(pooled))
            formula.fill(model)
            for ending in endings:
                path = folder / f"{net}{ending}"
                model.save_weights(path) if ending == ".weights.h5" else model.save(path)
                print(f"{path.stat().st_size:>10} {path.name}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="write the full-size files instead of the tiny ones")
    if parser.parse_args().full:
        full_files()
    else:
        with tempfile.TemporaryDirectory() as folder:
            tiny_fixtures(pathlib.Path(folder))


if __name__ == "__main__":
    main()
