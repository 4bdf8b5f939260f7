#!/usr/bin/env python3
"""Makes crates/chestnut-stats/tests/oracle.json: reference values for chestnut-stats.

AUC, DeLong and calibration lines come from R (pROC, glm) through oracle_stats.R; the rest from
scikit-learn, statsmodels, SciPy and dcurves. Nothing here is computed by chestnut itself.

    apt-get install r-base-core r-cran-proc r-cran-jsonlite
    python3 -m venv .venv-oracle-stats
    .venv-oracle-stats/bin/pip install scikit-learn==1.9.1 statsmodels==0.15.0 dcurves==1.1.7
    .venv-oracle-stats/bin/python scripts/oracle_stats.py
"""

import json
import math
import random
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from dcurves import dca
from scipy import stats
from sklearn.calibration import _SigmoidCalibration, calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_curve
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "crates/chestnut-stats/tests/oracle.json"
BOOTSTRAP_RESAMPLES = 20_000
draw = random.Random(20220501)


def bits(truth):
    return "".join("1" if t else "0" for t in truth)


def array(text):
    return np.array([int(c) for c in text])


def tie_case():
    """Integer scores with many ties, two correlated scores per row, 4 or more rows per class."""
    rows = draw.randint(14, 110)
    prevalence, levels = draw.uniform(0.15, 0.6), draw.randint(3, 30)
    strength_a, strength_b = draw.uniform(-0.1, 1.5), draw.uniform(-0.1, 1.5)
    while True:
        truth = [draw.random() < prevalence for _ in range(rows)]
        if 4 <= sum(truth) <= rows - 4:
            break
    a, b = [], []
    for t in truth:
        shared = draw.gauss(0, 1)
        a.append(round((shared + draw.gauss(0, 1) + strength_a * t) * levels / 5))
        b.append(round((shared + draw.gauss(0, 1) + strength_b * t) * levels / 5))
    return {"truth": bits(truth), "a": a, "b": b}


def calibration_case(rows, slope, intercept, grid):
    """Distinct scores (grid 0) or scores on a grid; truth drawn from a miscalibrated curve."""
    scores = set()
    while len(scores) < rows:
        scores.add(round(draw.gauss(0, 1.2), 3))
    scores = [round(s * grid) / grid if grid else s for s in scores]
    draw.shuffle(scores)
    p = [round(1 / (1 + math.exp(-s)), 5) for s in scores]
    truth = [draw.random() < 1 / (1 + math.exp(-(slope * s + intercept))) for s in scores]
    return {"truth": bits(truth), "scores": scores, "p": p, "distinct": len(set(p)) == rows}


def newcombe(auc, m, n, z):
    """Roots of (auc - a)^2 = z^2 V(a), Newcombe 2006 method 5, as a polynomial in a."""
    star = (m + n) / 2 - 1
    a, P = np.polynomial.Polynomial([0, 1]), np.polynomial.Polynomial
    both = (2 - a) * (1 + a)
    v = a * (1 - a) * (both + star * ((1 - a) * (1 + a) + a * (2 - a)))
    roots = ((auc - a) ** 2 * both * (m * n) - z * z * v + P([0])).roots()
    real = sorted(r.real for r in roots if abs(r.imag) < 1e-6 and -1e-9 <= r.real <= 1 + 1e-9)
    return max(real[0], 0.0), min(real[-1], 1.0)


def add_python_values(result):
    for case in result["ties"]:
        t = array(case["truth"])
        for name in "ab":
            case[f"{name}_average_precision"] = average_precision_score(t, case[name])
    first = result["ties"][0]
    fpr, tpr, thresholds = roc_curve(array(first["truth"]), first["a"], drop_intermediate=False)
    result["roc_of_first_case"] = {"fpr": fpr[1:].tolist(), "tpr": tpr[1:].tolist(),
                                   "thresholds": thresholds[1:].tolist()}

    for case in result["calibration"]:
        t, p, s = array(case["truth"]), np.array(case["p"]), np.array(case["scores"])
        case["brier"] = brier_score_loss(t, p)
        if case.pop("distinct"):
            # n is a multiple of 10, so scikit-learn's quantile bins hold the same rows as ours.
            observed, predicted = calibration_curve(t, p, n_bins=10, strategy="quantile")
            case["bins"] = {"observed": observed.tolist(), "predicted": predicted.tolist()}
            case["ece"] = float(np.mean(np.abs(observed - predicted)))
        sigmoid = _SigmoidCalibration().fit(s.reshape(-1, 1), t)
        case["platt_sklearn"] = {"slope": -float(sigmoid.a_), "intercept": -float(sigmoid.b_)}
        pos, neg = t.sum(), len(t) - t.sum()
        soft = np.where(t == 1, (pos + 1) / (pos + 2), 1 / (neg + 2))
        fit = sm.GLM(soft, sm.add_constant(s), family=sm.families.Binomial()).fit(tol=1e-14, maxiter=200)
        case["platt"] = {"slope": float(fit.params[1]), "intercept": float(fit.params[0])}
        queries = np.linspace(s.min() - 0.5, s.max() + 0.5, 25).round(4)
        iso = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(s, t)
        case["isotonic"] = {"queries": queries.tolist(), "values": iso.predict(queries).tolist()}

    case = result["calibration"][0]
    thresholds = [0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9]
    table = dca(pd.DataFrame({"truth": array(case["truth"]), "model": case["p"]}), outcome="truth",
                modelnames=["model"], thresholds=thresholds)
    pick = lambda model: (table[(table.model == model)].set_index("threshold").net_benefit)
    result["decision_of_first_calibration_case"] = {
        "thresholds": thresholds,
        "net_benefit": [float(pick("model")[t]) for t in thresholds],
        "treat_all": [float(pick("all")[t]) for t in thresholds]}

    result["wilson"] = []
    for successes, trials in [(0, 1), (1, 1), (0, 7), (3, 7), (7, 7), (11, 38), (38, 288), (199, 200), (5000, 100000)]:
        for level in (0.9, 0.95, 0.99):
            low, high = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
            result["wilson"].append([successes, trials, level, float(low), float(high)])

    result["holm"] = []
    for tests in (1, 2, 7, 14):
        p = [round(draw.random() ** 3, 6) for _ in range(tests)]
        if tests == 14:
            p[3] = p[9]
        result["holm"].append({"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()})

    z = [-37, -20, -8.5, -5, -2.9, -2.8, -1.96, -1, -0.1, 0.3, 1.2, 2.5, 4, 7.9]
    p = [1e-300, 1e-100, 1e-20, 1e-9, 1e-4, 0.01, 0.024, 0.025, 0.1, 0.3, 0.49, 0.51, 0.7, 0.975, 0.999, 1 - 1e-9]
    result["normal"] = {"z": z, "cdf": stats.norm.cdf(z).tolist(), "p": p, "quantile": stats.norm.ppf(p).tolist()}

    z95 = float(stats.norm.ppf(0.975))
    result["newcombe"] = [[auc, m, n, *newcombe(auc, m, n, z95)]
                          for auc, m, n in [(1, 3, 4), (1, 8, 180), (1, 40, 40), (0, 5, 60), (0.5, 10, 30)]]

    # Cluster bootstrap of the AUC of s100b with made-up clusters of 2 or 3 rows: row i in i mod 45.
    t, s = array(result["asah"]["truth"]), np.array(result["asah"]["scores"]["s100b"])
    clusters = [np.arange(c, len(t), 45) for c in range(45)]
    rng, values = np.random.default_rng(1), []
    for _ in range(BOOTSTRAP_RESAMPLES):
        rows = np.concatenate([clusters[c] for c in rng.integers(0, 45, 45)])
        m = int(t[rows].sum())
        n = len(rows) - m
        values.append((stats.rankdata(s[rows])[t[rows] == 1].sum() - m * (m + 1) / 2) / (m * n))
    low, high = np.percentile(values, [2.5, 97.5])
    result["cluster_bootstrap"] = {"score": "s100b", "clusters": 45, "resamples": BOOTSTRAP_RESAMPLES,
                                   "low": float(low), "high": float(high), "standard_error": float(np.std(values, ddof=1))}


def main():
    cases = {"ties": [tie_case() for _ in range(50)],
             "calibration": [calibration_case(200, 0.6, -0.4, 0), calibration_case(120, 1.5, 0.8, 0),
                             calibration_case(150, 1.0, 0.0, 4), calibration_case(80, -0.5, -1.0, 0)]}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "cases.json", Path(folder) / "results.json"
        source.write_text(json.dumps(cases))
        subprocess.run(["Rscript", str(HERE / "oracle_stats.R"), str(source), str(target)], check=True)
        from_r = json.loads(target.read_text())
    result = {"about": "Made by scripts/oracle_stats.py and oracle_stats.R; do not edit. Case scores are made up; "
                       "aSAH is stored as ranks only, see its note.",
              "versions": from_r["versions"] | {name: version(name) for name in
                                                ("scikit-learn", "statsmodels", "scipy", "dcurves")},
              "asah": from_r["asah"],
              "ties": [case | {"proc": values} for case, values in zip(cases["ties"], from_r["ties"], strict=True)],
              "calibration": [case | {"line": values} for case, values in
                              zip(cases["calibration"], from_r["calibration"], strict=True)]}
    add_python_values(result)
    text = json.dumps(result, separators=(",", ":"), allow_nan=False)
    # One line per top-level entry keeps differences readable.
    OUT.parent.mkdir(exist_ok=True)
    lines = [f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in result.items()]
    OUT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{OUT.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
