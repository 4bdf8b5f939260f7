"""Writes what the workers of the benchmark run: one network in three forms, all with the same formula-made weights.

    python benchsuite/prepare.py NET [NET ...]          -> models/bench/NET.onnx, NET.npz, NET.reference.npz

The network is Keras's own (include_top=False, global average pooling, Dense(14, sigmoid)), with two outputs: embedding
and probabilities. The layers are read from Keras as a list of plain steps. `NET.onnx` (NCHW, batch dimension "n") is for
ONNX Runtime and OpenVINO; `NET.npz` holds the steps and their tensors, from which peers.py builds a PyTorch module.
ONNX is written from the steps because tf2onnx turns DenseNet's batch normalisations into Mul and Add, which the engines
run more slowly; and NCHW so that no engine pays for turning the images.
`NET.reference.npz` holds Keras's outputs for 8 formula-made images; every engine must give these before it is timed.
The weights and images are those of `chestnut bench --net seeded:NET` (scripts/formula.py and chestnut_zoo::weights).
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "models" / "bench"
sys.path.insert(0, str(ROOT / "scripts"))

import formula  # noqa: E402  (scripts/formula.py)

SIZE = 224
IMAGES = 8
LABELS = 14
OPSET = 17
OUTPUTS = ["embedding", "probabilities"]
ONNX_OPERATORS = {
    "conv": "Conv", "norm": "BatchNormalization", "max": "MaxPool", "average": "AveragePool", "relu": "Relu",
    "sigmoid": "Sigmoid", "concat": "Concat", "add": "Add", "gap": "Flatten", "dense": "Gemm",
}


def keras_model(net):
    """The network with formula-made weights; outputs: embedding, probabilities."""
    import keras

    keras.backend.clear_session()
    base = getattr(keras.applications, formula.NETS[net])(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    embedding = keras.layers.GlobalAveragePooling2D(name="gap")(base.output)
    probabilities = keras.layers.Dense(LABELS, activation="sigmoid", name="head")(embedding)
    model = keras.Model(base.input, [embedding, probabilities])
    formula.fill(model)
    return model


def images(batch):
    """The first `batch` formula-made images, float32 in [-1, 1), (batch, SIZE, SIZE, 3)."""
    return formula.signed("input", (batch, SIZE, SIZE, 3))


def same_padding(size, kernel, stride):
    """TensorFlow's SAME padding of one axis: (before, after)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Steps:
    """Keras layers in order, as plain steps that a few PyTorch modules can run.

    A ZeroPadding2D is merged into the convolution or (values are never negative there) maximum pooling behind it, as
    a PyTorch user would have written it.
    """

    def __init__(self, model):
        self.steps, self.tensors, self.names, self.padded = [], {}, {}, {}
        for operation in model.operations:
            node = operation._inbound_nodes[0]
            inputs = list(node.input_tensors)
            self.layer(operation, inputs, node.output_tensors[0])
        self.outputs = [self.names[id(t)] for t in model.outputs]
        self.widths = {name: t.shape[-1] for name, t in zip(OUTPUTS, model.outputs)}

    def add(self, kind, inputs, output=None, **settings):
        number = len(self.steps) + 1
        self.steps.append({"kind": kind, "inputs": inputs, **settings})
        if output is not None:
            self.names[id(output)] = number
        return number

    def padding(self, layer, source, window, strides):
        """(symmetric padding of both axes, True if one more row and column are needed at the end)."""
        if id(source) in self.padded:
            source, ((top, bottom), (left, right)) = self.padded[id(source)]
            if layer.padding != "valid":
                raise ValueError(f"{layer.name}: two paddings")
        elif layer.padding == "valid":
            (top, bottom), (left, right) = (0, 0), (0, 0)
        else:
            (top, bottom), (left, right) = (
                same_padding(source.shape[1 + axis], window[axis], strides[axis]) for axis in (0, 1))
        ends = {bottom - top, right - left}
        if ends not in ({0}, {1}):
            raise ValueError(f"{layer.name}: this padding is not foreseen")
        return self.names[id(source)], [top, left], ends == {1}

    def convolution(self, layer, source, kernel, bias, output=None, depthwise=False):
        number, padding, uneven = self.padding(layer, source, layer.kernel_size, layer.strides)
        if uneven:
            raise ValueError(f"{layer.name}: uneven padding of a convolution is not foreseen")
        self.weight("weight", kernel.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))
        if bias is not None:
            self.weight("bias", bias)
        return self.add("conv", [number], output, stride=list(layer.strides), padding=padding,
                        groups=kernel.shape[2] if depthwise else 1, bias=bias is not None)

    def weight(self, name, value):
        """A tensor of the step that is added next."""
        self.tensors[f"{len(self.steps) + 1}.{name}"] = np.ascontiguousarray(value)

    def layer(self, layer, inputs, output):
        kind = type(layer).__name__
        value = lambda variable: None if variable is None else np.asarray(variable)
        if kind == "InputLayer":
            self.names[id(output)] = 0
        elif kind == "ZeroPadding2D":
            self.padded[id(output)] = (inputs[0], layer.padding)
        elif kind == "Conv2D":
            self.convolution(layer, inputs[0], value(layer.kernel), value(layer.bias), output)
            self.activation(layer.activation, output)
        elif kind == "SeparableConv2D":
            if layer.bias is not None:
                raise ValueError(f"{layer.name}: bias is not foreseen")
            depthwise = self.convolution(layer, inputs[0], value(layer.depthwise_kernel), None, depthwise=True)
            self.weight("weight", value(layer.pointwise_kernel).transpose(3, 2, 0, 1))
            self.add("conv", [depthwise], output, stride=[1, 1], padding=[0, 0], groups=1, bias=False)
            self.activation(layer.activation, output)
        elif kind == "BatchNormalization":
            mean = value(layer.moving_mean)
            self.weight("weight", value(layer.gamma) if layer.scale else np.ones_like(mean))
            self.weight("bias", value(layer.beta))
            self.weight("running_mean", mean)
            self.weight("running_var", value(layer.moving_variance))
            self.add("norm", [self.names[id(inputs[0])]], output, epsilon=float(layer.epsilon))
        elif kind in ("MaxPooling2D", "AveragePooling2D"):
            number, padding, uneven = self.padding(layer, inputs[0], layer.pool_size, layer.strides)
            self.add("max" if kind.startswith("Max") else "average", [number], output, window=list(layer.pool_size),
                     stride=list(layer.strides), padding=padding, ceil=uneven)
        elif kind in ("Activation", "ReLU"):
            self.names[id(output)] = self.names[id(inputs[0])]
            self.activation(getattr(layer, "activation", None) or "relu", output)
        elif kind == "Concatenate":
            self.add("concat", [self.names[id(t)] for t in inputs], output)
        elif kind == "Add":
            self.add("add", [self.names[id(t)] for t in inputs], output, scale=1.0)
        elif kind == "CustomScaleLayer":
            self.add("add", [self.names[id(t)] for t in inputs], output, scale=float(layer.scale))
        elif kind == "GlobalAveragePooling2D":
            self.add("gap", [self.names[id(inputs[0])]], output)
        elif kind == "Dense":
            self.weight("weight", value(layer.kernel).T)
            self.weight("bias", value(layer.bias))
            self.add("dense", [self.names[id(inputs[0])]], output)
            self.activation(layer.activation, output)
        else:
            raise ValueError(f"{layer.name}: no step for {kind}")

    def activation(self, activation, output):
        name = activation if isinstance(activation, str) else activation.__name__
        if name not in ("linear", "relu", "sigmoid"):
            raise ValueError(f"activation {name} is not foreseen")
        if name != "linear":
            self.add(name, [self.names[id(output)]], output)


def write_onnx(steps, path):
    """The steps as an ONNX model, in the operators that PyTorch's exporter uses (BatchNormalization, Gemm, ...)."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = lambda number: f"v{number}" if number else "images"
    nodes, constants = [], []
    for number, step in enumerate(steps.steps, 1):
        inputs, output, kind = [value(n) for n in step["inputs"]], value(number), step["kind"]
        names = [name for name in ("weight", "bias", "running_mean", "running_var") if f"{number}.{name}" in steps.tensors]
        constants += [numpy_helper.from_array(steps.tensors[f"{number}.{name}"], f"{number}.{name}") for name in names]
        inputs += [f"{number}.{name}" for name in names]
        attributes = {}
        if kind in ("conv", "max", "average"):
            before = step["padding"]
            after = [pad + 1 for pad in before] if step.get("ceil") else before
            attributes = {"strides": step["stride"], "pads": before + after}
            if kind == "conv":
                attributes |= {"group": step["groups"], "kernel_shape": steps.tensors[f"{number}.weight"].shape[2:]}
            else:
                attributes |= {"kernel_shape": step["window"]}
        elif kind == "norm":
            attributes = {"epsilon": step["epsilon"]}
        elif kind == "concat":
            attributes = {"axis": 1}
        elif kind == "dense":
            attributes = {"transB": 1}
        elif kind == "add" and step["scale"] != 1.0:
            constants.append(numpy_helper.from_array(np.float32(step["scale"]).reshape(1), f"{number}.scale"))
            nodes.append(helper.make_node("Mul", [inputs[1], f"{number}.scale"], [f"{output}.scaled"]))
            inputs[1] = f"{output}.scaled"
        elif kind == "gap":
            nodes.append(helper.make_node("GlobalAveragePool", inputs, [f"{output}.pooled"]))
            inputs = [f"{output}.pooled"]
        nodes.append(helper.make_node(ONNX_OPERATORS[kind], inputs, [output], **attributes))
    for name, number in zip(OUTPUTS, steps.outputs):
        nodes.append(helper.make_node("Identity", [value(number)], [name]))
    width = {name: steps.widths[name] for name in OUTPUTS}
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width[name]]) for name in OUTPUTS], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9  # read by every ONNX Runtime of the last years
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def paths(net):
    return [FOLDER / f"{net}.onnx", FOLDER / f"{net}.npz", FOLDER / f"{net}.reference.npz"]


def prepare(net):
    FOLDER.mkdir(parents=True, exist_ok=True)
    onnx_file, steps_file, reference_file = paths(net)
    model = keras_model(net)
    steps = Steps(model)
    write_onnx(steps, onnx_file)
    np.savez(steps_file, steps=json.dumps({"steps": steps.steps, "outputs": steps.outputs}), **steps.tensors)
    embedding, probabilities = (np.asarray(part) for part in model(images(IMAGES), training=False))
    if not np.isfinite(embedding).all() or np.abs(embedding).max() < 1e-3:
        raise SystemExit(f"{net}: the embedding is not of a sane scale")
    # Last, so that an interrupted run is repeated.
    np.savez(reference_file, embedding=embedding, probabilities=probabilities)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        prepare(name)
        print(f"prepared {name}", flush=True)
