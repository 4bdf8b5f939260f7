//! TreeSHAP: how much each feature moved a prediction away from the average, exactly.
//!
//! The values are those of path-dependent TreeSHAP (Lundberg et al. 2020, algorithm 2): the Shapley values of the game
//! in which a feature outside the coalition sends the row both ways, by the weight of the training rows on each side.
//! They are computed per leaf as the integral form of the Shapley value (Owen 1972) instead of algorithm 2's EXTEND and
//! UNWIND: for a leaf, the game is a product of one factor per feature of its path, so the integrand is a polynomial
//! and a Gauss-Legendre rule of half its degree integrates it exactly. Same order of work, O(leaves x depth^2), but
//! every term is positive and nothing cancels. One walk serves all outputs.

use crate::forest::{Forest, ForestError};
use crate::params::MAX_DEPTH;
use crate::table::Features;
use crate::tree::Tree;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Least share of the training weight in a node; below it a file is damaged, and products could vanish.
const LEAST_REACH: f64 = 1e-200;

/// Why one row got its prediction: `base[k]` plus the values of output `k` is the predicted probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Shap {
    /// Expected probability of each output over the training rows, by the trees' own weights.
    pub base: Vec<f64>,
    /// Features that some tree of the forest compares, ascending; all others have the value 0.
    pub features: Vec<u32>,
    /// `[entry of features][output]`, in units of probability.
    pub values: Vec<f64>,
}

impl Shap {
    /// Value of one feature for one output; 0 for a feature that no tree uses.
    ///
    /// # Panics
    /// If `output` is not an output of the forest.
    #[must_use]
    pub fn value(&self, feature: u32, output: usize) -> f64 {
        assert!(output < self.base.len(), "output {output} of {}", self.base.len());
        self.features.binary_search(&feature).map_or(0.0, |i| self.values[i * self.base.len() + output])
    }

    /// Base plus all values of one output: the prediction.
    ///
    /// # Panics
    /// If `output` is not an output of the forest.
    #[must_use]
    pub fn total(&self, output: usize) -> f64 {
        self.base[output] + self.values.iter().skip(output).step_by(self.base.len()).sum::<f64>()
    }

    /// All values of one output for a table of `width` features, zeros included.
    ///
    /// # Panics
    /// If `output` is not an output of the forest.
    #[must_use]
    pub fn dense(&self, width: usize, output: usize) -> Vec<f64> {
        let mut all = vec![0.0; width];
        for &feature in self.features.iter().filter(|&&f| (f as usize) < width) {
            all[feature as usize] = self.value(feature, output);
        }
        all
    }
}

impl Forest {
    /// SHAP values of one row; for many rows use [`Forest::shap_rows`] or an [`Explainer`], which prepare once.
    ///
    /// # Errors
    /// [`ForestError::Width`], or [`ForestError::Damaged`] for a forest that does not hold together.
    pub fn shap(&self, row: &[f32]) -> Result<Shap, ForestError> {
        Explainer::new(self)?.explain(row)
    }

    /// SHAP values of every row, in order. Memory: 8 bytes per row, output and feature that the forest uses.
    ///
    /// # Errors
    /// As [`Forest::shap`].
    pub fn shap_rows(&self, features: &Features) -> Result<Vec<Shap>, ForestError> {
        let explainer = Explainer::new(self)?;
        (0..features.rows()).into_par_iter().map(|r| explainer.explain(features.row(r))).collect()
    }
}

/// A forest prepared for explaining many rows.
#[derive(Debug)]
pub struct Explainer<'a> {
    forest: &'a Forest,
    /// Features that are used, ascending.
    used: Vec<u32>,
    /// `[feature]`: its place in `used`; 0 and never read for the others.
    slots: Vec<u32>,
    base: Vec<f64>,
    /// `[tree]`: depth and number of points of its rule.
    plans: Vec<(usize, usize)>,
    /// By number of points.
    rules: BTreeMap<usize, Rule>,
}

impl<'a> Explainer<'a> {
    /// Checks the forest and prepares to explain its predictions.
    ///
    /// # Errors
    /// [`ForestError::Damaged`] naming the tree whose nodes form no tree or have no weight.
    pub fn new(forest: &'a Forest) -> Result<Self, ForestError> {
        forest.validate()?;
        let mut seen = vec![false; forest.width];
        let mut base = vec![0.0; forest.outputs];
        let mut plans = Vec::with_capacity(forest.trees.len());
        let mut rules = BTreeMap::new();
        for (t, tree) in forest.trees.iter().enumerate() {
            let (depth, reach) = survey(tree).map_err(|what| ForestError::Damaged(format!("tree {t} {what}")))?;
            for (i, node) in tree.nodes.iter().enumerate() {
                if node.is_leaf() {
                    let shares = &tree.shares[i * forest.outputs..][..forest.outputs];
                    base.iter_mut().zip(shares).for_each(|(b, s)| *b += reach[i] * s);
                } else {
                    seen[node.feature as usize] = true;
                }
            }
            // A path has at most this many factors and the integrand one fewer; n points are exact to degree 2 n - 1.
            let points = depth.min(forest.width).div_ceil(2).max(1);
            rules.entry(points).or_insert_with(|| Rule::new(points));
            plans.push((depth, points));
        }
        base.iter_mut().for_each(|b| *b /= forest.trees.len() as f64);
        let used: Vec<u32> = (0..forest.width as u32).filter(|&f| seen[f as usize]).collect();
        let mut slots = vec![0; forest.width];
        used.iter().enumerate().for_each(|(i, &f)| slots[f as usize] = i as u32);
        Ok(Self { forest, used, slots, base, plans, rules })
    }

    /// SHAP values of one row.
    ///
    /// # Errors
    /// [`ForestError::Width`].
    pub fn explain(&self, row: &[f32]) -> Result<Shap, ForestError> {
        if row.len() != self.forest.width {
            return Err(ForestError::Width { found: row.len(), expected: self.forest.width });
        }
        let outputs = self.forest.outputs;
        let mut values = vec![0.0; self.used.len() * outputs];
        for (tree, &(depth, points)) in self.forest.trees.iter().zip(&self.plans) {
            let mut walk = Walk {
                tree,
                row,
                outputs,
                slots: &self.slots,
                rule: &self.rules[&points],
                path: Vec::with_capacity(depth),
                products: vec![1.0; (depth + 1) * points],
                values: &mut values,
            };
            walk.visit(0, 0);
        }
        values.iter_mut().for_each(|v| *v /= self.forest.trees.len() as f64);
        Ok(Shap { base: self.base.clone(), features: self.used.clone(), values })
    }
}

/// Depth of a tree and, for each node, the share of the weight that reaches it; or what is wrong with it.
fn survey(tree: &Tree) -> Result<(usize, Vec<f64>), &'static str> {
    let mut reach = vec![0.0; tree.nodes.len()];
    let mut depth = vec![0; tree.nodes.len()];
    reach[0] = 1.0;
    // Children lie behind their parent, so one pass suffices.
    for (i, node) in tree.nodes.iter().enumerate() {
        if reach[i] == 0.0 {
            return Err("has a node without a parent");
        }
        if node.is_leaf() {
            continue;
        }
        let children = [i + 1, node.right as usize];
        let both = tree.nodes[children[0]].weight + tree.nodes[children[1]].weight;
        for child in children {
            if reach[child] != 0.0 {
                return Err("has a node with two parents");
            }
            reach[child] = reach[i] * (tree.nodes[child].weight / both);
            depth[child] = depth[i] + 1;
            // Written so that a NaN is refused as well.
            let enough = reach[child] >= LEAST_REACH && reach[child] <= 1.0;
            if !enough || depth[child] > MAX_DEPTH {
                return Err("has a node without training rows or is too deep");
            }
        }
    }
    Ok((depth.into_iter().max().unwrap_or(0), reach))
}

/// Gauss-Legendre points and weights on [0, 1].
#[derive(Debug)]
struct Rule {
    points: Vec<f64>,
    weights: Vec<f64>,
}

impl Rule {
    /// `n` points: exact for polynomials up to degree 2 n - 1.
    fn new(n: usize) -> Self {
        let (mut points, mut weights) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for i in 0..n {
            // Newton's method on the Legendre polynomial, from Tricomi's approximation of its i-th root.
            let mut x = (std::f64::consts::PI * (i as f64 + 0.75) / (n as f64 + 0.5)).cos();
            let mut slope = 1.0;
            for _ in 0..20 {
                let (mut before, mut value) = (1.0, x);
                for k in 2..=n {
                    let k = k as f64;
                    (before, value) = (value, ((2.0 * k - 1.0) * x * value - (k - 1.0) * before) / k);
                }
                slope = n as f64 * (x * value - before) / (x * x - 1.0);
                let step = value / slope;
                x -= step;
                if step.abs() < 1e-15 {
                    break;
                }
            }
            points.push((1.0 - x) / 2.0);
            weights.push(1.0 / ((1.0 - x * x) * slope * slope));
        }
        Self { points, weights }
    }
}

/// A feature on the way to a node; a feature that is compared twice is one element.
#[derive(Clone, Copy)]
struct Element {
    feature: u32,
    slot: usize,
    /// Share of the training weight that passes its comparisons.
    zero: f64,
    /// 1 if the row passes all of them, 0 if not.
    one: f64,
}

impl Element {
    /// The feature's factor when it is in the coalition with probability `t`; positive for 0 < t < 1.
    fn at(&self, t: f64) -> f64 {
        self.zero * (1.0 - t) + self.one * t
    }
}

struct Walk<'a> {
    tree: &'a Tree,
    row: &'a [f32],
    outputs: usize,
    slots: &'a [u32],
    rule: &'a Rule,
    path: Vec<Element>,
    /// `[level][point]`: product of the factors of the path down to a level.
    products: Vec<f64>,
    /// `[slot][output]`.
    values: &'a mut [f64],
}

impl Walk<'_> {
    /// Recursion is as deep as the tree, which `survey` has limited to `MAX_DEPTH`.
    fn visit(&mut self, at: usize, level: usize) {
        let node = self.tree.nodes[at];
        if node.is_leaf() {
            self.leaf(at, level);
            return;
        }
        let (left, right) = (at + 1, node.right as usize);
        let both = self.tree.nodes[left].weight + self.tree.nodes[right].weight;
        let goes_left = self.row[node.feature as usize] <= node.threshold;
        for (child, hot) in [(left, goes_left), (right, !goes_left)] {
            let zero = self.tree.nodes[child].weight / both;
            let one = f64::from(u8::from(hot));
            if let Some(i) = self.path.iter().position(|e| e.feature == node.feature) {
                let old = self.path[i];
                let new = Element { zero: old.zero * zero, one: old.one * one, ..old };
                self.path[i] = new;
                self.multiply(level, Some(old), new);
                self.visit(child, level + 1);
                self.path[i] = old;
            } else {
                let slot = self.slots[node.feature as usize] as usize;
                let new = Element { feature: node.feature, slot, zero, one };
                self.path.push(new);
                self.multiply(level, None, new);
                self.visit(child, level + 1);
                self.path.pop();
            }
        }
    }

    /// Products of the next level: those of `level` with `old`'s factor replaced by `new`'s.
    fn multiply(&mut self, level: usize, old: Option<Element>, new: Element) {
        let points = self.rule.points.len();
        let (before, after) = self.products.split_at_mut((level + 1) * points);
        for ((a, b), &t) in after.iter_mut().zip(&before[level * points..]).zip(&self.rule.points) {
            *a = *b * new.at(t) / old.map_or(1.0, |e| e.at(t));
        }
    }

    /// Adds the leaf's part: share x (one - zero) x integral over t of the other features' factors.
    fn leaf(&mut self, at: usize, level: usize) {
        let points = self.rule.points.len();
        let product = &self.products[level * points..][..points];
        let shares = &self.tree.shares[at * self.outputs..][..self.outputs];
        for element in &self.path {
            let rest = product.iter().zip(&self.rule.points).zip(&self.rule.weights);
            let integral: f64 = rest.map(|((p, &t), w)| w * p / element.at(t)).sum();
            let amount = (element.one - element.zero) * integral;
            let values = &mut self.values[element.slot * self.outputs..][..self.outputs];
            values.iter_mut().zip(shares).for_each(|(v, s)| *v += amount * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::{MaxFeatures, Params};
    use crate::table::Labels;
    use crate::tree::{LEAF, Node};
    use chestnut_stats::random::Stream;

    fn forest(params: &Params, rows: usize, width: usize, outputs: usize) -> (Forest, Features) {
        let mut draw = Stream::keyed(params.seed, "shap test");
        let values = (0..rows * width).map(|_| draw.normal() as f32).collect();
        let features = Features::new(values, width).expect("finite");
        let label = |i: usize| (i % 11 != 3).then_some(features.row(i / outputs)[i % outputs] > 0.3 * (i % 5) as f32);
        let labels: Vec<_> = (0..rows * outputs).map(label).collect();
        let labels = Labels::new(&labels, outputs).expect("whole");
        (Forest::fit(&features, &labels, params).expect("fits"), features)
    }

    /// Expected share when only the features in `known` (a bit set) are known.
    fn expectation(tree: &Tree, outputs: usize, k: usize, row: &[f32], known: u32, at: usize) -> f64 {
        let node = tree.nodes[at];
        if node.is_leaf() {
            return tree.shares[at * outputs + k];
        }
        let right = node.right as usize;
        let down = |child| expectation(tree, outputs, k, row, known, child);
        if known >> node.feature & 1 == 1 {
            return down(if row[node.feature as usize] <= node.threshold { at + 1 } else { right });
        }
        let (l, r) = (tree.nodes[at + 1].weight, tree.nodes[right].weight);
        (l * down(at + 1) + r * down(right)) / (l + r)
    }

    /// Shapley's definition: every coalition of the other features.
    fn brute(forest: &Forest, row: &[f32], feature: usize, k: usize) -> f64 {
        let width = forest.width;
        let factorial = |n: usize| (1..=n).product::<usize>() as f64;
        let mut sum = 0.0;
        for set in (0..1_u32 << width).filter(|set| set >> feature & 1 == 0) {
            let size = set.count_ones() as usize;
            let weight = factorial(size) * factorial(width - size - 1) / factorial(width);
            for tree in &forest.trees {
                let value = |known| expectation(tree, forest.outputs, k, row, known, 0);
                sum += weight * (value(set | 1 << feature) - value(set));
            }
        }
        sum / forest.trees.len() as f64
    }

    #[test]
    fn equals_shapleys_definition() {
        let mut params = Params { trees: 3, max_features: MaxFeatures::Count(3), ..Params::extra_trees(5) };
        params.bootstrap = true;
        let (forest, features) = forest(&params, 90, 7, 3);
        assert!(forest.trees.iter().all(|t| t.nodes.len() > 9), "more than a stump");
        let rows = [0, 41, 77];
        for (shap, r) in forest.shap_rows(&features.select(&rows)).expect("runs").iter().zip(rows) {
            for feature in 0..7 {
                for k in 0..3 {
                    let expected = brute(&forest, features.row(r), feature, k);
                    assert!((shap.value(feature as u32, k) - expected).abs() < 1e-12, "row {r} feature {feature}");
                }
            }
        }
    }

    #[test]
    fn a_feature_twice_on_one_path() {
        let node = |feature, threshold, right, weight| Node { feature, threshold, right, rows: 1, weight, gain: 0.0 };
        // x0 <= 2, then x1 <= 0, then x0 <= 1.
        let nodes = vec![
            node(0, 2.0, 6, 10.0),
            node(1, 0.0, 5, 7.0),
            node(0, 1.0, 4, 5.0),
            node(LEAF, 0.0, 0, 2.0),
            node(LEAF, 0.0, 0, 3.0),
            node(LEAF, 0.0, 0, 2.0),
            node(LEAF, 0.0, 0, 3.0),
        ];
        let tree = Tree { nodes, shares: vec![0.0, 0.0, 0.0, 0.9, 0.1, 0.4, 0.7] };
        let forest = Forest { params: Params::decision_tree(0), width: 2, outputs: 1, trees: vec![tree] };
        for row in [[0.5, -1.0], [1.5, -1.0], [3.0, 1.0]] {
            let shap = forest.shap(&row).expect("runs");
            for feature in 0..2 {
                assert!((shap.value(feature as u32, 0) - brute(&forest, &row, feature, 0)).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn values_add_up_to_the_prediction() {
        for params in
            [Params::random_forest(1), Params::extra_trees(2), Params { max_depth: 40, ..Params::decision_tree(3) }]
        {
            let (forest, features) = forest(&params, 200, 60, 4);
            let predicted = forest.predict(&features).expect("predicts");
            for (r, shap) in forest.shap_rows(&features).expect("runs").iter().enumerate() {
                for k in 0..4 {
                    assert!((shap.total(k) - predicted[r * 4 + k]).abs() < 1e-12, "{params}, row {r}");
                    let dense: f64 = shap.dense(60, k).iter().sum();
                    assert!((shap.base[k] + dense - predicted[r * 4 + k]).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn rules_are_exact() {
        for n in [1, 2, 5, 13, 100] {
            let rule = Rule::new(n);
            for degree in [0, 1, n, 2 * n - 1] {
                let power = |t: &f64| t.powi(degree as i32);
                let sum: f64 = rule.points.iter().zip(&rule.weights).map(|(t, w)| w * power(t)).sum();
                assert!((sum * (degree + 1) as f64 - 1.0).abs() < 1e-12, "{n} points, degree {degree}: {sum}");
            }
        }
    }

    #[test]
    fn damaged_forests_are_refused() {
        let (good, features) = forest(&Params { trees: 2, ..Params::random_forest(4) }, 60, 5, 1);
        assert!(matches!(good.shap(&features.row(0)[..4]), Err(ForestError::Width { found: 4, expected: 5 })));
        let mut weightless = good.clone();
        weightless.trees[1].nodes[1].weight = 0.0;
        assert!(weightless.shap(features.row(0)).expect_err("no weight").to_string().contains("tree 1"));
        // Two parents for one node would make the walk exponential.
        let mut tangled = good.clone();
        assert!(!tangled.trees[0].nodes[0].is_leaf());
        tangled.trees[0].nodes[0].right += 1;
        assert!(tangled.shap(features.row(0)).is_err());
    }
}
