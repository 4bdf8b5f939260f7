"""Whole saved PyTorch models, for the tests of the readers.

    python scripts/make_torch_fixtures.py    -> crates/chestnut-zoo/tests/fixtures/torch_models.zip (committed, 20 KB)

Needs numpy, not PyTorch: classes that stand in under PyTorch's and TorchXRayVision's names are pickled by Python's own
pickler, with the persistent ids and around the pickles the bytes that torch.save writes. The model is a DenseNet with
one layer in one block, cut down to a few channels; each tensor holds formula.unit of its dotted name. Three files:

    model.pt          torch.save(model) since PyTorch 1.6: a zip archive
    model_legacy.pt   torch.save(model) of PyTorch 1.3, as TorchXRayVision published its weights
    checkpoint.pt     {"epoch": 3, "model": model} with pickle protocol 4
"""

import io
import pathlib
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

import formula

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "crates/chestnut-zoo/tests/fixtures/torch_models.zip"
STAMP = (1980, 1, 1, 0, 0, 0)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def stand_in(module, name, bases=(), **members):
    """A class that pickles as module.name."""
    for depth in range(1, module.count(".") + 2):
        part = ".".join(module.split(".")[:depth])
        sys.modules.setdefault(part, types.ModuleType(part))
    made = type(name, bases, {"__module__": module, **members})
    setattr(sys.modules[module], name, made)
    return made


def function(module, name):
    """A function that pickles as module.name and cannot be called."""
    stand_in(module, name)

    def made(*_):
        raise AssertionError("never called")

    made.__module__, made.__qualname__, made.__name__ = module, name, name
    setattr(sys.modules[module], name, made)
    return made


REBUILD_TENSOR = function("torch._utils", "_rebuild_tensor_v2")
REBUILD_PARAMETER = function("torch._utils", "_rebuild_parameter")
BACKEND = function("torch.nn.backends.thnn", "_get_thnn_function_backend")
FLOATS = stand_in("torch", "FloatStorage")
LONGS = stand_in("torch", "LongStorage")


class Storage:
    """Values that torch.save keeps beside the pickle."""

    def __init__(self, values):
        self.values = values
        self.kind = FLOATS if values.dtype == np.float32 else LONGS


class Tensor:
    def __init__(self, values, parameter=False):
        self.storage, self.shape, self.parameter = Storage(values.ravel()), values.shape, parameter

    def __reduce_ex__(self, _):
        strides = tuple(int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape)))
        plain = (REBUILD_TENSOR, (self.storage, 0, self.shape, strides, False, OrderedDict()))
        return (REBUILD_PARAMETER, (Plain(plain), True, OrderedDict())) if self.parameter else plain


class Plain:
    """The tensor inside a parameter."""

    def __init__(self, reduced):
        self.reduced = reduced

    def __reduce_ex__(self, _):
        return self.reduced


class Backend:
    """PyTorch 1.3 kept one in each module."""

    def __reduce_ex__(self, _):
        return BACKEND, ()


class Module:
    def __init__(self, old, parameters=(), buffers=(), modules=(), **attributes):
        if old:
            self._backend = Backend()
        self.training = False
        self._parameters = OrderedDict(parameters)
        self._buffers = OrderedDict(buffers)
        if not old:
            self._non_persistent_buffers_set = {"scratch"} if "scratch" in self._buffers else set()
            self._is_full_backward_hook = None
        self._backward_hooks = OrderedDict()
        self._forward_hooks = OrderedDict()
        self._state_dict_hooks = OrderedDict()
        self._modules = OrderedDict(modules)
        self.__dict__.update(attributes)


def kind(module, name):
    return stand_in(module, name, (Module,))


NN = "torch.nn.modules."
SEQUENTIAL, CONV = kind(NN + "container", "Sequential"), kind(NN + "conv", "Conv2d")
NORM, RELU = kind(NN + "batchnorm", "BatchNorm2d"), kind(NN + "activation", "ReLU")
MAX_POOL, MEAN_POOL = kind(NN + "pooling", "MaxPool2d"), kind(NN + "pooling", "AvgPool2d")
LINEAR = kind(NN + "linear", "Linear")
DENSENET, BLOCK, LAYER, TRANSITION = (
    kind("torchxrayvision.models", name) for name in ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"))


def values(name, *shape):
    return formula.unit(name, int(np.prod(shape))).astype(np.float32).reshape(shape)


def conv(old, name, out, inputs, size):
    weight = Tensor(values(f"{name}.weight", out, inputs, size, size), parameter=True)
    return CONV(old, [("weight", weight), ("bias", None)], in_channels=inputs, out_channels=out, kernel_size=(size, size),
                stride=(1, 1), padding_mode="zeros", transposed=False)


def norm(old, name, width):
    parameters = [(part, Tensor(values(f"{name}.{part}", width), parameter=True)) for part in ("weight", "bias")]
    buffers = [(part, Tensor(values(f"{name}.{part}", width))) for part in ("running_mean", "running_var")]
    buffers.append(("num_batches_tracked", Tensor(np.array(1234, dtype=np.int64))))
    return NORM(old, parameters, buffers, num_features=width, eps=1e-5, momentum=0.1, affine=True)


def model(old):
    features, layer, transition = "features", "features.denseblock1.denselayer1", "features.transition1"
    dense = LAYER(old, modules=[
        ("norm1", norm(old, f"{layer}.norm1", 4)), ("relu1", RELU(old, inplace=True)),
        ("conv1", conv(old, f"{layer}.conv1", 8, 4, 1)), ("norm2", norm(old, f"{layer}.norm2", 8)),
        ("relu2", RELU(old, inplace=True)), ("conv2", conv(old, f"{layer}.conv2", 2, 8, 3))], drop_rate=0.0)
    parts = [
        ("conv0", conv(old, f"{features}.conv0", 4, 1, 7)), ("norm0", norm(old, f"{features}.norm0", 4)),
        ("relu0", RELU(old, inplace=True)), ("pool0", MAX_POOL(old, kernel_size=3, stride=2, padding=1)),
        ("denseblock1", BLOCK(old, modules=[("denselayer1", dense)])),
        ("transition1", TRANSITION(old, modules=[
            ("norm", norm(old, f"{transition}.norm", 6)), ("relu", RELU(old, inplace=True)),
            ("conv", conv(old, f"{transition}.conv", 3, 6, 1)), ("pool", MEAN_POOL(old, kernel_size=2, stride=2))])),
        ("norm5", norm(old, f"{features}.norm5", 3))]
    linear = LINEAR(old, [("weight", Tensor(values("classifier.weight", 2, 3), parameter=True)),
                          ("bias", Tensor(values("classifier.bias", 2), parameter=True))], in_features=3, out_features=2)
    buffers = [] if old else [("op_threshs", Tensor(values("op_threshs", 2))), ("scratch", Tensor(values("scratch", 5)))]
    return DENSENET(old, buffers=buffers, modules=[("features", SEQUENTIAL(old, modules=parts)), ("classifier", linear)],
                    op_threshs=None, pathologies=["Edema", "Effusion"])


class Pickler(pickle.Pickler):
    """Keeps storages aside; `legacy` also gives each class of a module with its source code, once."""

    def __init__(self, out, protocol, legacy):
        super().__init__(out, protocol)
        self.legacy, self.keys, self.storages, self.classes = legacy, {}, [], set()

    def persistent_id(self, value):
        if self.legacy and isinstance(value, type) and issubclass(value, Module) and value not in self.classes:
            self.classes.add(value)
            return "module", value, f"{value.__module__}.py", f"class {value.__name__}(Module):\n    pass\n"
        if not isinstance(value, Storage):
            return None
        key = self.keys.setdefault(id(value), len(self.keys))
        key = str(94_000_000_000_000 + 64 * key) if self.legacy else str(key)
        if all(key != other for other, _ in self.storages):
            self.storages.append((key, value))
        described = "storage", value.kind, key, "cuda:0" if self.legacy else "cpu", value.values.size
        return (*described, None) if self.legacy else described


def save(value, protocol=2):
    index = io.BytesIO()
    pickler = Pickler(index, protocol, legacy=False)
    pickler.dump(value)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        entries = [("data.pkl", index.getvalue()), ("byteorder", b"little"), ("version", b"3\n")]
        for name, content in entries + [(f"data/{key}", storage.values.tobytes()) for key, storage in pickler.storages]:
            archive.writestr(zipfile.ZipInfo(f"model/{name}", STAMP), content)
    return out.getvalue()


def save_legacy(value):
    out = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    for head in (MAGIC, PROTOCOL, {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": sizes}):
        pickle.dump(head, out, protocol=2)
    pickler = Pickler(out, 2, legacy=True)
    pickler.dump(value)
    storages = sorted(pickler.storages, key=lambda storage: storage[0])
    pickle.dump([key for key, _ in storages], out, protocol=2)
    for _, storage in storages:
        out.write(struct.pack("<q", storage.values.size))
        out.write(storage.values.tobytes())
    return out.getvalue()


def main():
    files = {"model.pt": save(model(old=False)), "model_legacy.pt": save_legacy(model(old=True)),
             "checkpoint.pt": save({"epoch": 3, "loss": 0.25, "model": model(old=False)}, protocol=4)}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, STAMP), content, zipfile.ZIP_DEFLATED)
    for name, content in files.items():
        print(f"{name}: {len(content)} bytes")
    print(f"wrote {TARGET.relative_to(ROOT)}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
