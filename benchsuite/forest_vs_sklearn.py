"""chestnut-forest beside scikit-learn: time and AUC on the same table, one run, pieces of both taking turns.

    cargo build --release --example forest_bench -p chestnut-forest
    pip install numpy scikit-learn [onnxruntime shap]
    python benchsuite/forest_vs_sklearn.py --synthetic 658,1024,7 --out results/forest_synthetic
    python benchsuite/forest_vs_sklearn.py --features x.npy --labels y.npy --groups patients.npy --out results/nih

x.npy f32 [row, feature]; y.npy 0 or 1 [row, label] (scikit-learn has no unknown labels); patients.npy one id per row,
so that no patient is in two parts. Writes OUT.md (the table) and OUT.json (every number behind it).

What is compared: one fit at the paper's final values; mean AUC over splits, the same for both, seed i for split i;
the paper's grids (126 settings DT, 882 RF and XRT, 5 folds). scikit-learn's grid time is extrapolated: GridSearchCV
runs a random subset of the settings, equally many for each n_estimators, and the mean time per setting is multiplied by
the number of settings. Times are measured inside both programs, without reading files or starting processes.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import tempfile
import time

import numpy as np
import sklearn
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit
from sklearn.tree import DecisionTreeClassifier

ROOT = pathlib.Path(__file__).parent.parent
FINAL = {
    "dt": dict(max_depth=10, min_samples_leaf=1, min_samples_split=2, criterion="gini"),
    "rf": dict(n_estimators=100, max_depth=10, min_samples_leaf=4, min_samples_split=10, criterion="gini"),
    "xrt": dict(n_estimators=200, max_depth=10, min_samples_leaf=2, min_samples_split=2, criterion="entropy"),
}
# The same values as Grid::paper.
GRID = dict(
    max_depth=[2, 3, 4, 5, 10, 15, 20],
    min_samples_split=[2, 5, 10],
    min_samples_leaf=[1, 2, 4],
    criterion=["gini", "entropy"],
)
COUNTS = [10, 20, 50, 100, 150, 200, 300]


def classifier(learner, seed=0, jobs=1, **settings):
    if learner == "dt":
        return DecisionTreeClassifier(random_state=seed, **settings)
    kind = RandomForestClassifier if learner == "rf" else ExtraTreesClassifier
    return kind(max_features="sqrt", bootstrap=False, random_state=seed, n_jobs=jobs, **settings)


def macro_auc(estimator, x, y):
    """Mean over the labels with both classes among the judged rows; a class unseen in training has probability 0."""
    probabilities = estimator.predict_proba(x)
    classes = estimator.classes_
    if y.shape[1] == 1:
        probabilities, classes = [probabilities], [classes]
    scores = []
    for k, (p, c) in enumerate(zip(probabilities, classes)):
        if 0 < y[:, k].sum() < len(y):
            scores.append(roc_auc_score(y[:, k], p[:, list(c).index(1)] if 1 in c else np.zeros(len(y))))
    return float(np.mean(scores))


def synthetic(rows, width, outputs):
    """Rows like pooled embeddings: correlated, not negative; labels from a few directions, with noise."""
    draw = np.random.default_rng(0)
    hidden = draw.normal(size=(rows, 40))
    x = np.maximum(hidden @ draw.normal(size=(40, width)) / 6 + draw.normal(size=(rows, width)), 0)
    signal = hidden[:, :outputs] + draw.normal(size=(rows, outputs))
    y = signal > np.quantile(signal, np.linspace(0.5, 0.9, outputs), axis=0).diagonal()
    return x.astype(np.float32), y.astype(np.int8), np.arange(rows)


class Ours:
    """Runs the example binary on the table and reads its JSON."""

    def __init__(self, binary, folder, x, y):
        self.binary, self.folder, self.rows = binary, folder, len(x)
        self.table = folder / "table.bin"
        head = np.array([len(x), x.shape[1], y.shape[1]], "<u4").tobytes()
        self.table.write_bytes(head + x.astype("<f4").tobytes() + y.astype(np.int8).tobytes())

    def splits(self, name, pairs):
        path = self.folder / name
        marks = np.full((len(pairs), self.rows), 2, np.uint8)
        for mark, (train, test) in zip(marks, pairs):
            mark[train], mark[test] = 0, 1
        path.write_bytes(np.array([len(pairs)], "<u4").tobytes() + marks.tobytes())
        return path

    def run(self, splits, task, learner, threads, **options):
        command = [self.binary, self.table, splits, task, "--learner", learner, "--threads", threads]
        for key, value in options.items():
            command += [f"--{key}", value]
        return json.loads(subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout)


def compare_fits(ours, splits, x, y, threads, repeats):
    result = {}
    for learner in FINAL:
        times = {"chestnut": [], "sklearn": []}
        for repeat in range(repeats):
            times["chestnut"] += ours.run(splits, "fit", learner, threads)["seconds"]
            model = classifier(learner, repeat, threads, **FINAL[learner])
            start = time.perf_counter()
            model.fit(x, y)
            times["sklearn"].append(time.perf_counter() - start)
        result[learner] = times
    return result


def compare_aucs(ours, x, y, groups, threads, seeds):
    pairs = [next(GroupShuffleSplit(1, test_size=0.3, random_state=s).split(x, groups=groups)) for s in range(seeds)]
    splits = ours.splits("auc.bin", pairs)
    result = {}
    for learner in FINAL:
        theirs = [
            macro_auc(classifier(learner, s, threads, **FINAL[learner]).fit(x[train], y[train]), x[test], y[test])
            for s, (train, test) in enumerate(pairs)
        ]
        result[learner] = {"chestnut": ours.run(splits, "auc", learner, threads)["aucs"], "sklearn": theirs}
    return result


def subset(learner, each, draw):
    """`each` random settings for every n_estimators (7 x `each` in all for a forest, 7 x `each` for a single tree)."""
    rest = [dict(zip(GRID, values)) for values in itertools.product(*GRID.values())]
    if learner == "dt":
        return [rest[i] for i in draw.choice(len(rest), 7 * each, replace=False)], len(rest)
    chosen = [{"n_estimators": n, **rest[i]} for n in COUNTS for i in draw.choice(len(rest), each, replace=False)]
    return [chosen[i] for i in draw.permutation(len(chosen))], len(rest) * len(COUNTS)


def compare_grids(ours, x, y, groups, threads, each):
    folds = list(GroupKFold(5).split(x, groups=groups))
    splits = ours.splits("folds.bin", folds)
    result = {}
    for learner in FINAL:
        runs, seconds = [ours.run(splits, "grid", learner, threads)], []
        if each:
            chosen, total = subset(learner, each, np.random.default_rng(1))
            search = lambda settings: GridSearchCV(
                classifier(learner),
                [{k: [v] for k, v in s.items()} for s in settings],
                cv=folds,
                scoring=macro_auc,
                n_jobs=threads,
                refit=False,
            )
            search(chosen[:1]).fit(x, y)  # starts the workers
            for part in (chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]):
                start = time.perf_counter()
                search(part).fit(x, y)
                seconds.append(time.perf_counter() - start)
                runs.append(ours.run(splits, "grid", learner, threads))
        result[learner] = {"chestnut": runs}
        if each:
            result[learner]["sklearn"] = {
                "subset": chosen,
                "seconds": seconds,
                "settings": total,
                "extrapolated": sum(seconds) / len(chosen) * total,
            }
    return result


def check_export(ours, splits, x, threads):
    """The exported forest in ONNX Runtime, and its SHAP values by the shap package, where they are installed."""
    result = {}
    target = ours.folder / "forest.onnx"
    made = ours.run(splits, "export", "rf", threads, rows=20, out=target)
    forest, judged = made["forest"], x[:20]
    outputs, count = forest["outputs"], len(forest["trees"])
    predicted = np.array(made["predicted"]).reshape(len(judged), outputs)
    try:
        import onnxruntime

        run = lambda path: onnxruntime.InferenceSession(path.read_bytes()).run(None, {"embedding": judged})
        result["onnx_largest_difference"] = float(np.abs(run(target)[0] - predicted).max())
        label, pair = run(target.with_name(target.name + ".label0"))
        result["onnx_classifier_largest_difference"] = float(np.abs(pair[:, 1] - predicted[:, 0]).max())
        sure = np.abs(predicted[:, 0] - 0.5) > 1e-6
        result["onnx_classifier_labels_agree"] = bool((label == (predicted[:, 0] > 0.5))[sure].all())
    except ImportError:
        result["onnx"] = "onnxruntime is not installed"
    try:
        import shap

        trees = []
        for tree in forest["trees"]:
            nodes = tree["nodes"]
            leaf = np.array([n["feature"] == 2**32 - 1 for n in nodes])
            column = lambda key, fill: np.where(leaf, fill, [n[key] for n in nodes])
            left = np.where(leaf, -1, np.arange(len(nodes)) + 1).astype(np.int32)
            trees.append(
                {
                    "children_left": left,
                    "children_right": column("right", -1).astype(np.int32),
                    "children_default": left,
                    "features": column("feature", -2).astype(np.int32),
                    "thresholds": column("threshold", -2.0).astype(float),
                    "values": np.array(tree["shares"]).reshape(-1, outputs) / count,
                    "node_sample_weight": np.array([n["weight"] for n in nodes], float),
                }
            )
        explainer = shap.TreeExplainer({"trees": trees}, feature_perturbation="tree_path_dependent")
        start = time.perf_counter()
        # The C code needs f64 rows; f32 values are the same numbers.
        values = np.asarray(explainer.shap_values(judged.astype(float), check_additivity=False))
        result["shap_seconds"] = time.perf_counter() - start
        values = values.reshape(len(judged), forest["width"], outputs).transpose(0, 2, 1)
        result["shap_largest_difference"] = float(np.abs(values - np.array(made["shap"])).max())
        result["chestnut_shap_seconds"] = ours.run(splits, "shap", "rf", 1, rows=20)["seconds"]
    except ImportError:
        result["shap"] = "shap is not installed"
    return result


def report(r):
    lines = [
        f"Table: {r['rows']} rows x {r['width']} features, {r['labels']} labels ({r['source']}). {r['machine']}, "
        f"scikit-learn {r['sklearn']}, {r['threads']} threads where not stated.",
        "",
        "| what | chestnut | scikit-learn | ratio |",
        "|---|---:|---:|---:|",
    ]
    for threads, fits in r["fits"].items():
        for learner, times in fits.items():
            a, b = (statistics.median(times[who]) for who in ("chestnut", "sklearn"))
            name = f"one {learner.upper()} fit, {threads} thread(s), median of {len(times['sklearn'])}"
            lines.append(f"| {name} | {a:.3f} s | {b:.3f} s | {b / a:.1f} |")
    whole = 0.0
    for learner, grid in r["grids"].items():
        a = statistics.median(run["seconds"] for run in grid["chestnut"])
        whole += a
        name = f"{learner.upper()} grid, {grid['chestnut'][0]['settings']} settings, 5 folds"
        if "sklearn" in grid:
            b = grid["sklearn"]["extrapolated"]
            name += f" (scikit-learn from {len(grid['sklearn']['subset'])} settings)"
            lines.append(f"| {name} | {a:.1f} s | {b:.0f} s | {b / a:.0f} |")
        else:
            lines.append(f"| {name} | {a:.1f} s | not run | |")
    lines.append(f"| all three grids | {whole:.1f} s | | |")
    for learner, aucs in r["aucs"].items():
        a, b = (np.array(aucs[who]) for who in ("chestnut", "sklearn"))
        error = (a - b).std(ddof=1) / len(a) ** 0.5
        lines.append(
            f"| {learner.upper()} mean AUC over {len(a)} splits | {a.mean():.4f} | {b.mean():.4f} "
            f"| difference {a.mean() - b.mean():+.4f} (standard error {error:.4f}) |"
        )
    shown = lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    lines += [""] + [f"- {key}: {shown(value)}" for key, value in r["export"].items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=pathlib.Path)
    parser.add_argument("--labels", type=pathlib.Path)
    parser.add_argument("--groups", type=pathlib.Path)
    parser.add_argument("--synthetic", metavar="ROWS,WIDTH,LABELS")
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/examples/forest_bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="fits of each kind")
    parser.add_argument("--seeds", type=int, default=20, help="splits for the AUC")
    each = "settings per n_estimators that GridSearchCV runs; 0 leaves it out"
    parser.add_argument("--each", type=int, default=3, help=each)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="OUT.md and OUT.json are written")
    options = parser.parse_args()
    if options.synthetic:
        x, y, groups = synthetic(*map(int, options.synthetic.split(",")))
        source = "synthetic"
    elif options.features and options.labels:
        x, y = np.load(options.features).astype(np.float32), np.load(options.labels)
        groups = np.load(options.groups) if options.groups else np.arange(len(x))
        source = options.features.name
    else:
        parser.error("give --features and --labels, or --synthetic")
    if not np.isin(y, (0, 1)).all():
        parser.error("labels must be 0 or 1: scikit-learn has no unknown labels")
    y = np.ascontiguousarray(y.reshape(len(x), -1), np.int8)
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(options.binary, pathlib.Path(folder), x, y)
        none = ours.splits("none.bin", [])
        result = {
            "source": source,
            "rows": len(x),
            "width": x.shape[1],
            "labels": y.shape[1],
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "sklearn": sklearn.__version__,
            "threads": options.threads,
            "fits": {str(t): compare_fits(ours, none, x, y, t, options.repeats) for t in sorted({1, options.threads})},
            "aucs": compare_aucs(ours, x, y, groups, options.threads, options.seeds),
            "grids": compare_grids(ours, x, y, groups, options.threads, options.each),
            "export": check_export(ours, none, x, options.threads),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    text = report(result)
    options.out.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
