"""Reference values of one training step, by Keras and by PyTorch, from formula-made weights, images and targets.

Writes crates/chestnut-train/tests/oracle_training.json (two numbers per tensor). Needs Python with tensorflow (2.21 was
used) and torch (2.15 was used):
    python scripts/oracle_training.py
Both run DenseNet121 and VGG16 in float64 (PyTorch also in float32: how far rounding takes anybody) on the very float32 weights and images that the Rust test makes: forward in
training mode, weighted binary cross-entropy, all gradients, one step of Adam, running statistics. PyTorch's networks are
written out below from the tensors' names, so that the two references do not share code.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np

import formula

ROOT = pathlib.Path(__file__).resolve().parent.parent
NETS = ("densenet121", "vgg16")
LABELS, BATCH, SIZE, RATE = 5, 4, 64, 1e-3


def batch(precision=np.float64):
    images = formula.signed("input", (BATCH, SIZE, SIZE, 3)).astype(precision)
    targets = formula.unit("targets", BATCH * LABELS).reshape(BATCH, LABELS).astype(precision)
    # Every fourth label is unknown.
    weights = (np.arange(BATCH * LABELS).reshape(BATCH, LABELS) % 4 != 3).astype(precision)
    return images, targets, weights


def two(name, values):
    """Norm, and dot product with v('check.' + name)."""
    values = np.asarray(values, dtype=np.float64)
    check = formula.signed("check." + name, values.shape).astype(np.float64)
    return formula.digits([np.linalg.norm(values), float((values * check).sum())])


def of_keras(net):
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    keras.config.set_floatx("float64")
    base = getattr(keras.applications, formula.NETS[net])(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="gap")(base.output)
    model = keras.Model(base.input, keras.layers.Dense(LABELS, name="head_dense")(pooled))
    before = formula.fill(model)
    images, targets, weights = batch()
    with tf.GradientTape() as tape:
        logits = model(tf.constant(images), training=True)
        terms = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
        loss = tf.reduce_sum(terms * weights) / weights.sum()
    gradients = tape.gradient(loss, model.trainable_variables)
    by_variable = {id(v): g for v, g in zip(model.trainable_variables, gradients)}
    keras.optimizers.Adam(RATE, epsilon=1e-7).apply_gradients(zip(gradients, model.trainable_variables))
    out = {"loss": formula.digits(float(loss))[0], "gradients": {}, "updates": {}, "running": {}}
    for name, layer, index in formula.canonical_names(model):
        variable = layer.weights[index]
        after = np.asarray(variable, dtype=np.float64)
        if id(variable) in by_variable:
            out["gradients"][name] = two(name, by_variable[id(variable)])
            out["updates"][name] = two(name, (after - before[name].astype(np.float64)) / RATE)
        else:
            out["running"][name] = two(name, after)
    keras.config.set_floatx("float32")
    out["shapes"] = {name: list(value.shape) for name, value in before.items()}
    out["versions"] = {"keras": keras.__version__, "tensorflow": tf.__version__}
    return out


def densenet121(x, conv, norm):
    import torch
    import torch.nn.functional as F

    x = F.max_pool2d(F.pad(F.relu(norm(conv(x, "conv1_conv", 2, 3), "conv1_bn")), (1, 1, 1, 1)), 3, 2)
    for stage, layers in zip((2, 3, 4, 5), (6, 12, 24, 16)):
        for layer in range(1, layers + 1):
            stem = f"conv{stage}_block{layer}"
            y = conv(F.relu(norm(x, stem + "_0_bn")), stem + "_1_conv", 1, 0)
            y = conv(F.relu(norm(y, stem + "_1_bn")), stem + "_2_conv", 1, 1)
            x = torch.cat([x, y], 1)
        if stage < 5:
            x = F.avg_pool2d(conv(F.relu(norm(x, f"pool{stage}_bn")), f"pool{stage}_conv", 1, 0), 2)
    return F.relu(norm(x, "bn"))


def vgg16(x, conv, norm):
    import torch.nn.functional as F

    for block, layers in zip((1, 2, 3, 4, 5), (2, 2, 3, 3, 3)):
        for layer in range(1, layers + 1):
            x = F.relu(conv(x, f"block{block}_conv{layer}", 1, 1))
        x = F.max_pool2d(x, 2)
    return x


def of_torch(net, shapes, precision):
    import torch
    import torch.nn.functional as F

    leaf = {}
    for name, shape in shapes.items():
        learns = not name.endswith(("moving_mean", "moving_variance"))
        leaf[name] = torch.tensor(formula.tensor(name, tuple(shape)).astype(precision), requires_grad=learns)

    def conv(x, name, stride, padding):
        kernel = leaf[name + ".kernel"].permute(3, 2, 0, 1)
        return F.conv2d(x, kernel, leaf.get(name + ".bias"), stride, padding)

    def norm(x, name):
        of = [leaf[f"{name}.{kind}"] for kind in ("moving_mean", "moving_variance", "gamma", "beta")]
        return F.batch_norm(x, *of, training=True, momentum=0.1, eps=1.001e-5)

    images, targets, weights = (torch.tensor(v) for v in batch(precision))
    features = globals()[net](images.permute(0, 3, 1, 2), conv, norm).mean((2, 3))
    logits = features @ leaf["head.0.kernel"] + leaf["head.0.bias"]
    loss = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum") / weights.sum()
    loss.backward()
    learning = [v for v in leaf.values() if v.requires_grad]
    before = {name: v.detach().clone() for name, v in leaf.items()}
    torch.optim.Adam(learning, RATE, eps=1e-7).step()
    out = {"loss": formula.digits(float(loss.detach()))[0], "gradients": {}, "updates": {}, "running": {}}
    for name, v in leaf.items():
        if v.requires_grad:
            out["gradients"][name] = two(name, v.grad)
            out["updates"][name] = two(name, (v.detach() - before[name]) / RATE)
        else:
            out["running"][name] = two(name, v)
    out["versions"] = {"torch": torch.__version__.split("+")[0]}
    return out


def in_a_child(peer, net, shapes):
    command = [sys.executable, __file__, "--peer", peer, "--net", net]
    found = subprocess.run(command, input=json.dumps(shapes), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "crates/chestnut-train/tests/oracle_training.json")
    parser.add_argument("--peer", choices=("keras", "torch", "torch32"), help=argparse.SUPPRESS)
    parser.add_argument("--net", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        shapes = json.load(sys.stdin)
        precision = np.float32 if arguments.peer == "torch32" else np.float64
        print(json.dumps(of_keras(arguments.net) if arguments.peer == "keras" else of_torch(arguments.net, shapes, precision)))
        return
    nets, versions = {}, {}
    for net in NETS:
        by_keras = in_a_child("keras", net, {})
        shapes = by_keras.pop("shapes")
        by_torch, single = in_a_child("torch", net, shapes), in_a_child("torch32", net, shapes)
        for peer in (by_keras, by_torch, single):
            versions.update(peer.pop("versions"))
        worst = max(abs(a[0] / b[0] - 1) for a, b in
                    ((v, by_torch["gradients"][k]) for k, v in by_keras["gradients"].items()) if b[0] > 1e-9)
        print(f"{net}: loss {by_keras['loss']} {by_torch['loss']}, gradient norms differ by at most {worst:.1e}")
        nets[net] = {"keras": by_keras, "torch": by_torch, "torch32": single}
    document = {
        "about": "Made by scripts/oracle_training.py: one training step in float64 (torch32: in float32). Each pair is the norm of a tensor and its dot "
                 "product with v('check.' + name). updates = (after - before) / rate of one step of Adam.",
        **versions,
        "labels": LABELS, "batch": BATCH, "size": SIZE, "rate": RATE,
        "nets": nets,
    }
    text = re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", json.dumps(document, indent=1))
    partial = arguments.output.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(arguments.output)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
