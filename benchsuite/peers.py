"""One worker of the benchmark: holds one network in one engine and times its forward pass when asked.

    python benchsuite/peers.py ENGINE NET THREADS       (started by engines.py)

Speaks JSON lines: {"do": "load", "batch": 8} -> {"embedding_error", "probabilities_error", "note"};
{"do": "time", "batch": 8, "seconds": 2} -> {"times_ms": [...]}, milliseconds of one pass of the whole batch, from
images in the engine's own layout to embedding and probabilities readable in NumPy. Everything is float32.
"""

import json
import os
import pathlib
import sys
import time

ENGINE, NET, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(THREADS)
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no processes of its own that would go on while this one is stopped
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np

import prepare

MINIMUM_PASSES = 3
ONNX, STEPS, REFERENCE = prepare.paths(NET)


def nchw(batch):
    return np.ascontiguousarray(prepare.images(batch).transpose(0, 3, 1, 2))


class OnnxRuntime:
    def load(self, batch):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.add_free_dimension_override_by_name("n", batch)
        session = onnxruntime.InferenceSession(str(ONNX), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: nchw(batch)}
        return lambda: session.run(["embedding", "probabilities"], feed), "all graph optimisations"


class OpenVino:
    def __init__(self, hint):
        self.hint = hint

    def load(self, batch):
        import openvino

        core = openvino.Core()
        model = core.read_model(ONNX)
        model.reshape([batch, 3, prepare.SIZE, prepare.SIZE])
        # Without the precision hint a processor with bf16 or AMX would silently compute in bf16.
        compiled = core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": self.hint, "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS})
        request = compiled.create_infer_request()
        pixels = nchw(batch)
        request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
        outputs = [request.get_tensor(compiled.output(name)) for name in ("embedding", "probabilities")]

        def forward():
            request.infer()
            return [tensor.data for tensor in outputs]

        self.kept = (core, compiled, pixels)
        return forward, f"{self.hint.lower()} hint, f32"


class PyTorch:
    """channels_last; `compiled` = torch.compile with frozen weights, else the faster of two TorchScript forms."""

    def __init__(self, compiled):
        self.compiled = compiled

    def load(self, batch):
        import torch

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        network = module_from_steps(torch).eval().to(memory_format=torch.channels_last)
        pixels = torch.from_numpy(nchw(batch)).contiguous(memory_format=torch.channels_last)
        if self.compiled:
            import torch._inductor.config

            torch._inductor.config.freezing = True
            candidates = {"torch.compile, frozen weights": torch.compile(network)}
        else:
            traced = torch.jit.trace(network, pixels)
            candidates = {
                "torch.jit.freeze": torch.jit.freeze(traced),
                "torch.jit.optimize_for_inference": torch.jit.optimize_for_inference(torch.jit.freeze(traced)),
            }
        speeds = {}
        for name, candidate in candidates.items():
            for _ in range(3):  # TorchScript and torch.compile specialise during the first passes
                candidate(pixels)
            speeds[name] = min(timed(lambda candidate=candidate: candidate(pixels)) for _ in range(4))
        best = min(speeds, key=speeds.get)
        chosen = candidates[best]
        return lambda: [part.numpy() for part in chosen(pixels)], f"channels_last, {best}"


def module_from_steps(torch):
    """The steps of prepare.py as a PyTorch module."""
    nn, functional = torch.nn, torch.nn.functional
    stored = np.load(STEPS)
    plan = json.loads(str(stored["steps"]))

    def layer(number, step):
        tensor = lambda name: torch.from_numpy(stored[f"{number}.{name}"])
        if step["kind"] == "conv":
            weight = tensor("weight")
            made = nn.Conv2d(weight.shape[1] * step["groups"], weight.shape[0], tuple(weight.shape[2:]), step["stride"],
                             step["padding"], groups=step["groups"], bias=step["bias"])
            names = ["weight"] + ["bias"] * step["bias"]
        elif step["kind"] == "norm":
            made = nn.BatchNorm2d(len(tensor("weight")), eps=step["epsilon"])
            names = ["weight", "bias", "running_mean", "running_var"]
        elif step["kind"] == "dense":
            made = nn.Linear(tensor("weight").shape[1], tensor("weight").shape[0])
            names = ["weight", "bias"]
        elif step["kind"] == "max":
            return nn.MaxPool2d(step["window"], step["stride"], step["padding"], ceil_mode=step["ceil"])
        elif step["kind"] == "average":
            return nn.AvgPool2d(step["window"], step["stride"], step["padding"], ceil_mode=step["ceil"],
                                count_include_pad=False)
        else:
            return nn.Identity()
        missing = made.load_state_dict({name: tensor(name) for name in names}, strict=False).missing_keys
        if [name for name in missing if name != "num_batches_tracked"]:
            raise ValueError(f"step {number}: no values for {missing}")
        return made

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(layer(number, step) for number, step in enumerate(plan["steps"], 1))

        def forward(self, pixels):
            values = [pixels]
            for step, made in zip(plan["steps"], self.layers):
                given = [values[number] for number in step["inputs"]]
                kind = step["kind"]
                if kind == "relu":
                    values.append(functional.relu(given[0]))
                elif kind == "sigmoid":
                    values.append(torch.sigmoid(given[0]))
                elif kind == "concat":
                    values.append(torch.cat(given, 1))
                elif kind == "add":
                    values.append(torch.add(given[0], given[1], alpha=step["scale"]))
                elif kind == "gap":
                    values.append(functional.adaptive_avg_pool2d(given[0], 1).flatten(1))
                else:
                    values.append(made(given[0]))
            return tuple(values[number] for number in plan["outputs"])

    return Network()


class Keras:
    def __init__(self, xla):
        self.xla = xla
        self.model = None

    def load(self, batch):
        import tensorflow as tf

        if self.model is None:
            tf.config.threading.set_intra_op_parallelism_threads(THREADS)
            tf.config.threading.set_inter_op_parallelism_threads(THREADS)
            self.model = prepare.keras_model(NET)
        pixels = tf.constant(prepare.images(batch))
        model = self.model
        forward = tf.function(lambda x: model(x, training=False), jit_compile=self.xla,
                              input_signature=[tf.TensorSpec(pixels.shape, tf.float32)])
        return lambda: [part.numpy() for part in forward(pixels)], "tf.function" + (", XLA" if self.xla else "")


MAKERS = {
    "onnxruntime": OnnxRuntime,
    "openvino": lambda: OpenVino("LATENCY"),
    "openvino-throughput": lambda: OpenVino("THROUGHPUT"),
    "torch": lambda: PyTorch(False),
    "torch-compile": lambda: PyTorch(True),
    "keras": lambda: Keras(False),
    "keras-xla": lambda: Keras(True),
}


def timed(action):
    """Milliseconds."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


def compare(outputs, batch):
    """Largest relative L2 difference of an embedding, and largest difference of a probability, from Keras."""
    reference = np.load(REFERENCE)
    embedding, probabilities = (np.array(part, dtype=np.float64) for part in outputs)
    wanted = reference["embedding"][:batch].astype(np.float64)
    if embedding.shape != wanted.shape or probabilities.shape != (batch, prepare.LABELS):
        raise ValueError(f"outputs of shape {embedding.shape} and {probabilities.shape}")
    relative = np.linalg.norm(embedding - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    return {"embedding_error": float(relative.max()),
            "probabilities_error": float(np.abs(probabilities - reference["probabilities"][:batch]).max())}


def main():
    # Libraries print what they like: standard output is kept for the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = MAKERS[ENGINE]()
    loaded = {}
    for line in sys.stdin:
        order = json.loads(line)
        batch = order["batch"]
        try:
            if order["do"] == "load":
                loaded[batch], note = engine.load(batch)
                for _ in range(2):
                    outputs = loaded[batch]()
                answer = {"note": note, **compare(outputs, batch)}
            else:
                loaded[batch]()
                times = []
                until = time.perf_counter() + order["seconds"]
                while len(times) < MINIMUM_PASSES or time.perf_counter() < until:
                    times.append(timed(loaded[batch]))
                answer = {"times_ms": [round(t, 4) for t in times]}
        except Exception as error:  # noqa: BLE001  the orchestrator reports it and goes on without this engine
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
