"""Reference values for chestnut-forest from scikit-learn and shap: crates/chestnut-forest/tests/oracle_forest.json.

Tables are formula-made (formula.py), so that the Rust tests make the same features from the same names and only labels
and results are committed. Nothing is random but the search for a table without tied splits, which is stated below.

    pip install scikit-learn shap;  python scripts/oracle_forest.py
"""

import json
import pathlib

import numpy as np
import shap
import sklearn
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from formula import signed, unit

LEAF = 2**32 - 1
TARGET = pathlib.Path(__file__).parent.parent / "crates/chestnut-forest/tests/oracle_forest.json"


def labels_of(x, name, outputs, noise, blanks=0.0):
    """int8 [row, output], -1 unknown: two features' sum above a threshold, with formula-made noise and blanks."""
    rows, width = x.shape
    n = signed(name + ".noise", (rows, outputs)).astype(float)
    y = np.stack([x[:, k % width] + x[:, (k + 2) % width] for k in range(outputs)], 1) + noise * n > 0.2
    gone = unit(name + ".blanks", rows * outputs).reshape(rows, outputs) < blanks
    return np.where(gone, -1, y.astype(np.int8))


def text(y):
    """One string per row: 1, 0 or ? per label."""
    return ["".join("?" if v < 0 else str(v) for v in row) for row in y]


def nodes_of(tree, positive):
    """A scikit-learn tree in the layout of chestnut_forest::Tree; its nodes are in the same depth-first order."""
    t = tree.tree_
    nodes = []
    for i in range(t.node_count):
        leaf = t.children_left[i] < 0
        assert leaf or t.children_left[i] == i + 1
        nodes.append(
            {
                "feature": LEAF if leaf else int(t.feature[i]),
                "threshold": 0.0 if leaf else float(np.float32(t.threshold[i])),
                "right": 0 if leaf else int(t.children_right[i]),
                "rows": int(t.n_node_samples[i]),
                "weight": float(t.weighted_n_node_samples[i]),
                "gain": 0.0,
            }
        )
    return {"nodes": nodes, "shares": [float(v) for v in positive(t.value).ravel()]}


def shap_case(name, rows, width, outputs, **settings):
    """A forest and the SHAP values of its first rows, `[row][feature][output]`."""
    x = signed(name, (rows, width))
    y = labels_of(x, name, outputs, 1.0)
    forest = RandomForestRegressor(random_state=1, **settings).fit(x, y if outputs > 1 else y[:, 0])
    trees = [nodes_of(t, lambda v: np.clip(v[:, :, 0], 0.0, 1.0)) for t in forest.estimators_]
    for tree, estimator in zip(trees, forest.estimators_):
        # Thresholds as f32 must send the rows where the f64 thresholds send them.
        for node, threshold in zip(tree["nodes"], estimator.tree_.threshold):
            if node["feature"] != LEAF:
                column = x[:, node["feature"]].astype(float)
                assert ((column <= threshold) == (column <= node["threshold"])).all()
    explainer = shap.TreeExplainer(forest, feature_perturbation="tree_path_dependent")
    judged = x[:6]
    values = np.asarray(explainer.shap_values(judged)).reshape(len(judged), width, outputs)
    base = np.asarray(explainer.expected_value).reshape(outputs)
    predicted = forest.predict(judged).reshape(len(judged), outputs)
    assert np.abs(base + values.sum(1) - predicted).max() < 1e-6
    twice = max(path_repeats(t) for t in forest.estimators_)
    return {
        "name": name,
        "rows": len(judged),
        "width": width,
        "outputs": outputs,
        "most_uses_of_a_feature_on_a_path": twice,
        "trees": trees,
        "base": base.tolist(),
        "values": values.tolist(),
    }


def path_repeats(tree):
    """How often a feature is compared at most on one path."""
    t, most, open_nodes = tree.tree_, 0, [(0, ())]
    while open_nodes:
        i, path = open_nodes.pop()
        if t.children_left[i] < 0:
            most = max([most] + [path.count(f) for f in path])
        else:
            path += (int(t.feature[i]),)
            open_nodes += [(t.children_left[i], path), (t.children_right[i], path)]
    return most


def logistic_case(name, rows, width, lambdas):
    """Coefficients for unstandardised features and probabilities of all rows; labels with blanks."""
    x = signed(name, (rows, width)) * np.linspace(0.5, 3.0, width, dtype=np.float32)
    x[:, 1] = np.float32(0.25)
    y = labels_of(x, name, 2, 1.5, 0.1)
    scaler = StandardScaler().fit(x.astype(float))
    z = scaler.transform(x.astype(float))
    fits = []
    for strength in lambdas:
        weights, intercepts, probabilities = [], [], []
        for k in range(2):
            known = y[:, k] >= 0
            model = LogisticRegression(C=1.0 / strength, tol=1e-13, max_iter=100_000, solver="newton-cholesky")
            model.fit(z[known], y[known, k])
            other = LogisticRegression(C=1.0 / strength, tol=1e-10, max_iter=100_000).fit(z[known], y[known, k])
            assert np.abs(model.coef_ - other.coef_).max() < 1e-5, "the two solvers disagree"
            w = model.coef_[0] / scaler.scale_
            w[1] = 0.0
            weights.append(w.tolist())
            intercepts.append(float(model.intercept_[0] - w @ scaler.mean_))
            probabilities.append(model.predict_proba(z)[:, 1].tolist())
        fits.append({"lambda": strength, "weights": weights, "intercepts": intercepts, "probabilities": probabilities})
    return {"name": name, "rows": rows, "width": width, "labels": text(y), "fits": fits}


def neighbours_case(name, rows, width, k):
    """Shares of positives among the k nearest known rows of the first 40, for the other rows."""
    x = signed(name, (rows, width))
    y = labels_of(x, name, 2, 1.0, 0.1)
    train, test = x[:40].astype(float), x[40:].astype(float)
    result = {"name": name, "rows": rows, "width": width, "k": k, "labels": text(y[:40])}
    for key, metric in (("cosine", "cosine"), ("l1", "manhattan")):
        columns = []
        for label in range(2):
            known = y[:40, label] >= 0
            model = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(train[known], y[:40][known, label])
            columns.append(model.predict_proba(test)[:, 1])
            distances = np.sort(model.kneighbors(test, k + 1)[0], 1)
            assert np.diff(distances, axis=1).min() > 1e-9, "distances must not tie"
        result[key] = np.stack(columns, 1).tolist()
    return result


def tree_case(criterion):
    """A multi-output tree whose best split is unique at every node: the same for 30 orders of the features."""
    for attempt in range(1000):
        name = f"tree.{criterion}.{attempt}"
        x = signed(name, (160, 8))
        gaps = np.diff(np.sort(x.astype(float), 0), axis=0)
        if gaps.min() < 2e-7:
            continue
        y = labels_of(x, name, 3, 0.8)
        fit = lambda seed: DecisionTreeClassifier(
            criterion=criterion, max_depth=6, min_samples_leaf=4, min_samples_split=10, random_state=seed
        ).fit(x, y)
        tree = fit(0)
        same = lambda other: (
            other.tree_.node_count == tree.tree_.node_count
            and (other.tree_.feature == tree.tree_.feature).all()
            and (other.tree_.threshold == tree.tree_.threshold).all()
        )
        if tree.tree_.node_count >= 25 and all(same(fit(seed)) for seed in range(1, 30)):
            break
    else:
        raise SystemExit("no table without tied splits found")
    return {
        "name": name,
        "rows": 160,
        "width": 8,
        "criterion": criterion,
        "labels": text(y),
        "tree": nodes_of(tree, lambda v: v[:, :, 1]),
        "importances": tree.feature_importances_.tolist(),
    }


def main():
    oracle = {
        "made_by": f"scripts/oracle_forest.py with scikit-learn {sklearn.__version__} and shap {shap.__version__}",
        "shap": [
            shap_case("shap.wide", 80, 6, 2, n_estimators=5, max_depth=4),
            shap_case("shap.deep", 120, 3, 1, n_estimators=2, max_depth=12),
        ],
        "logistic": [
            logistic_case("logistic.tall", 60, 20, [1.0, 30.0]),
            logistic_case("logistic.wide", 30, 50, [1.0, 30.0]),
        ],
        "neighbours": [neighbours_case("neighbours", 60, 10, 5)],
        "trees": [tree_case("gini"), tree_case("entropy")],
    }
    TARGET.write_text(json.dumps(oracle, separators=(",", ":")) + "\n")
    print(TARGET, TARGET.stat().st_size, "bytes")
    for case in oracle["shap"]:
        print(case["name"], case["most_uses_of_a_feature_on_a_path"], [len(t["nodes"]) for t in case["trees"]])
    print([(t["name"], len(t["tree"]["nodes"])) for t in oracle["trees"]])


if __name__ == "__main__":
    main()
