"""Times whole training steps of chestnut and of PyTorch side by side: DenseNet121, VGG16 and Xception, batch 16, float32.

    benchsuite/setup.sh
    cargo build --release -p chestnut-train --examples
    .venv-bench/bin/python benchsuite/training.py --name NAME [--rounds 5] [--nets densenet121,vgg16,xception]

A step is forward with the batch's statistics, binary cross-entropy, backward and Adam on all tensors. PyTorch runs
channels_last with torchvision's DenseNet121 and VGG16 (without its two large layers) and Xception from timm, on the same two
cores. The two take turns, a few steps each in a fresh process; the first step of a turn is not counted. Writes
benchsuite/runs/NAME.json with every time, prints medians, ratios and peak memory. Linux only.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "target/release/examples/step_bench"
STEPS = 3


def torch_turn(net, batch, size):
    import resource
    import time

    import torch

    torch.manual_seed(0)
    model = peer(net).to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    targets = torch.rand(batch, 14)
    optimiser = torch.optim.Adam(model.parameters(), 1e-4)
    model.train()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(model(images), targets).backward()
        optimiser.step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"times": times, "peak_mib": peak, "torch": torch.__version__.split("+")[0]}))


def peer(net):
    import torch
    from torch import nn

    if net == "densenet121":
        import torchvision

        model = torchvision.models.densenet121(weights=None)
        model.classifier = nn.Linear(1024, 14)
        return model
    if net == "vgg16":
        import torchvision

        features = torchvision.models.vgg16(weights=None).features
        return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 14))
    import timm

    return timm.create_model("legacy_xception", pretrained=False, num_classes=14)


def ours(net, batch, size):
    found = subprocess.run([EXAMPLE, net, str(batch), str(size), str(STEPS)], stdout=subprocess.PIPE, text=True, check=True)
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    return {"times": [line["seconds"] for line in lines if "seconds" in line], "peak_mib": int(re.match(r"\d+", lines[-1]["peak"])[0]) / 1024}


def theirs(net, batch, size):
    command = [sys.executable, __file__, "--torch-turn", net, "--batch", str(batch), "--size", str(size)]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nets", default="densenet121,vgg16,xception")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--torch-turn", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch_turn:
        torch_turn(arguments.torch_turn, arguments.batch, arguments.size)
        return
    processor = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "unknown")
    flags = next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "")
    document = {"processor": processor, "avx512": "avx512f" in flags, "cores": len(os.sched_getaffinity(0)),
                "system": platform.system(), "batch": arguments.batch, "size": arguments.size, "nets": {}}
    for net in arguments.nets.split(","):
        turns = {"chestnut": [], "torch": []}
        for round_ in range(arguments.rounds):
            order = [("chestnut", ours), ("torch", theirs)]
            for name, run in order if round_ % 2 == 0 else reversed(order):
                turns[name].append(run(net, arguments.batch, arguments.size))
        median = {name: statistics.median(t for turn in runs for t in turn["times"][1:]) for name, runs in turns.items()}
        memory = {name: max(turn["peak_mib"] for turn in runs) for name, runs in turns.items()}
        document["torch"] = turns["torch"][0]["torch"]
        document["nets"][net] = {"median_seconds": median, "peak_mib": memory, "ratio": median["chestnut"] / median["torch"], "turns": turns}
        print(f"{net}: chestnut {median['chestnut']:.2f} s, PyTorch {median['torch']:.2f} s, ratio {median['chestnut'] / median['torch']:.2f}; "
              f"peak {memory['chestnut']:.0f} and {memory['torch']:.0f} MiB", flush=True)
    if arguments.name:
        path = ROOT / "benchsuite/runs" / f"{arguments.name}.json"
        path.write_text(json.dumps(document, indent=1) + "\n")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
