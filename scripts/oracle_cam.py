"""Reference values of class activation maps: gradients by TensorFlow, on formula-made weights and input.

Writes crates/chestnut/tests/oracle_cam.json. Needs Python with tensorflow (2.21 was used):
    python scripts/oracle_cam.py [--nets xception,vgg16] [--output FILE]
For each network and two labels, in float64 with the float32 weights and input of oracle_nets.py, 224 x 224, one image:
    grad_cam   sum over channels of (mean gradient over positions) x activation, of the logit, without ReLU and scaling,
               at the tensor that global average pooling reads;
    legacy     the predecessor's guided variant there: of the sigmoid's output, the gradient kept where activation and
               gradient are positive, averaged over positions, starting at ones;
    before     the same grad_cam at the layer that the predecessor names, before the last ReLU (VGG: the same layer).
The Rust test checks grad_cam and legacy; `before` records how much the choice of the layer matters.
"""

import argparse
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
import oracle_nets

ROOT = pathlib.Path(__file__).resolve().parent.parent
SIZE = 224
# Cardiomegaly and Pleural Effusion in CheXpert's order.
LABELS = [2, 10]
# Layers of the predecessor's maps.
BEFORE = {
    "densenet121": "bn",
    "densenet169": "bn",
    "densenet201": "bn",
    "inception_resnet_v2": "conv_7b_bn",
    "xception": "block14_sepconv2_bn",
    "vgg16": "block5_pool",
    "vgg19": "block5_pool",
}


def run(net):
    """Per label: logit, probability, activations and gradients at both layers, all float64."""
    keras.config.set_floatx("float64")
    model = oracle_nets.build(net, SIZE)
    formula.fill(model)
    before = model.get_layer(BEFORE[net]).output
    tapped = keras.Model(model.input, [before, *model.outputs])
    image = tf.constant(formula.signed("input", (1, SIZE, SIZE, 3)), dtype="float64")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        before, after, _, logits, probabilities = tapped(image, training=False)
        scores = {label: (logits[0, label], probabilities[0, label]) for label in LABELS}
    results = {}
    for label, (logit, probability) in scores.items():
        of_logit = tape.gradient(logit, [before, after])
        of_probability = tape.gradient(probability, after)
        parts = [before, after, of_logit[0], of_logit[1], of_probability]
        results[label] = (float(logit), float(probability), [np.asarray(part, dtype=np.float64)[0] for part in parts])
    keras.config.set_floatx("float32")
    return results


def grad_cam(activation, gradient):
    return activation @ gradient.mean(axis=(0, 1))


def legacy(activation, gradient):
    kept = np.where((activation > 0) & (gradient > 0), gradient, 0.0)
    return 1.0 + activation @ kept.mean(axis=(0, 1))


def hottest(heat, share=0.2):
    """Positions at or above the 0.8 quantile."""
    return heat >= np.quantile(heat, 1.0 - share)


def summary(logit, probability, parts):
    before, after, before_gradient, gradient, probability_gradient = parts
    here, there = grad_cam(after, gradient), grad_cam(before, before_gradient)
    spread = np.abs(gradient - gradient.mean(axis=(0, 1))).max() / np.abs(gradient).max()
    if spread > 1e-9:
        raise SystemExit("behind global average pooling the gradient must be the same everywhere")
    both = hottest(here) & hottest(there)
    return {
        "logit": formula.digits(logit)[0],
        "probability": formula.digits(probability)[0],
        "sum": formula.digits(here.sum())[0],
        "grad_cam": formula.digits(here),
        "legacy": formula.digits(legacy(after, probability_gradient)),
        "before": {
            "grad_cam": formula.digits(there),
            "correlation": float(f"{np.corrcoef(here.ravel(), there.ravel())[0, 1]:.4g}"),
            "overlap_of_hottest_fifth": float(f"{both.sum() / hottest(here).sum():.4g}"),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default=",".join(formula.NETS))
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "crates/chestnut/tests/oracle_cam.json")
    arguments = parser.parse_args()

    nets = {}
    for net in arguments.nets.split(","):
        labels = []
        for label, (logit, probability, parts) in run(net).items():
            entry = {"output": label, **summary(logit, probability, parts)}
            labels.append(entry)
            print(f"{net} output {label}: logit {entry['logit']:.4g}, correlation with the map before the ReLU "
                  f"{entry['before']['correlation']}", flush=True)
        nets[net] = {"map": list(parts[1].shape), "before_layer": BEFORE[net], "labels": labels}

    document = {
        "about": "Made by scripts/oracle_cam.py: class activation maps by TensorFlow's gradients in float64, for formula-made "
                 "weights and input (scripts/formula.py), 224 x 224. Maps are row by row, before ReLU and scaling.",
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "size": SIZE,
        "nets": nets,
    }
    text = json.dumps(document, indent=1)
    # Short lists of numbers on one line: the file stays readable and small.
    text = re.sub(r"\[\s+([-\d.e+,\s]+?)\s+\]", lambda m: "[" + " ".join(m.group(1).split()) + "]", text)
    partial = arguments.output.with_suffix(".part")
    partial.write_text(text + "\n")
    partial.replace(arguments.output)
    print(f"wrote {arguments.output} ({arguments.output.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
