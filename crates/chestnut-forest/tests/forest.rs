//! Whole learners: nested grids, determinism, edge cases.

#![allow(missing_docs)]

use chestnut_forest::{
    ClassWeight, Criterion, Features, Fold, Forest, Grid, Labels, Learner, MAX_ROWS, MaxFeatures, Params, grid_search,
    nested_predictions,
};
use chestnut_stats::random::Stream;

/// Rows with a few informative features and `outputs` labels; some labels unknown if `blanks`.
fn table(rows: usize, width: usize, outputs: usize, blanks: bool, seed: u64) -> (Features, Labels) {
    let mut draw = Stream::keyed(seed, "table");
    let mut values = Vec::new();
    let mut labels = Vec::new();
    for _ in 0..rows {
        let row: Vec<f32> = (0..width).map(|_| draw.normal() as f32).collect();
        for k in 0..outputs {
            let positive = f64::from(row[k % width] + row[(k + 1) % width]) + draw.normal() > 0.8;
            labels.push((!blanks || draw.uniform() > 0.2).then_some(positive));
        }
        values.extend(row);
    }
    (Features::new(values, width).expect("finite"), Labels::new(&labels, outputs).expect("whole"))
}

#[test]
fn nested_equals_separate_bit_for_bit() {
    let mut draw = Stream::keyed(1, "settings");
    let mut compared = 0;
    for (case, learner) in
        [Learner::DecisionTree, Learner::RandomForest, Learner::ExtraTrees].into_iter().cycle().take(6).enumerate()
    {
        let (features, labels) = table(120, 30, 4, case >= 3, case as u64);
        let fold = Fold { train: (0..90).collect(), test: (90..120).collect() };
        let mut grid = Grid::paper(learner);
        if learner != Learner::DecisionTree {
            grid.trees = vec![3, 7, 20, 33];
        }
        grid.bootstrap = vec![case % 2 == 1];
        for growth in grid.growths(9) {
            let nested = nested_predictions(&features, &labels, &fold, &grid, &growth).expect("grows");
            for (params, predictions) in grid.nested(&growth).iter().zip(&nested) {
                if draw.uniform() > 0.06 {
                    continue;
                }
                let alone =
                    Forest::fit(&features.select(&fold.train), &labels.select(&fold.train), params).expect("fits");
                let expected = alone.predict(&features.select(&fold.test)).expect("predicts");
                assert!(expected.iter().zip(predictions).all(|(a, b)| a.to_bits() == b.to_bits()), "{params}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 60, "only {compared} settings compared");
}

#[test]
fn same_bits_for_any_number_of_threads() {
    let (features, labels) = table(200, 64, 7, true, 3);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| Forest::fit(&features, &labels, &Params::extra_trees(4)).expect("fits"))
    };
    let one = run(1);
    assert!(one == run(2) && one == run(8));
}

#[test]
fn a_tree_alone_is_the_first_of_many() {
    // Trees that grow together look up what features offer at the root; a tree alone does not.
    let (features, labels) = table(150, 40, 3, false, 7);
    for criterion in [Criterion::Gini, Criterion::Entropy] {
        let params = Params { criterion, ..Params::random_forest(5) };
        let many = Forest::fit(&features, &labels, &Params { trees: 20, ..params.clone() }).expect("fits");
        let alone = Forest::fit(&features, &labels, &Params { trees: 1, ..params }).expect("fits");
        assert_eq!(alone.trees[0], many.trees[0]);
        assert!(many.trees[1..].iter().all(|t| t != &alone.trees[0]), "other draws, other trees");
    }
}

#[test]
fn a_tree_learns_what_is_there() {
    // Label = x0 > 0: one split, halfway between the neighbours.
    let features = Features::new(vec![-3.0, -1.0, 2.0, 4.0], 1).expect("finite");
    let labels = Labels::new(&[Some(false), Some(false), Some(true), Some(true)], 1).expect("whole");
    let tree = Forest::fit(&features, &labels, &Params::decision_tree(0)).expect("fits");
    assert_eq!(tree.trees[0].nodes[0].threshold, 0.5);
    assert_eq!(tree.predict(&features).expect("predicts"), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!(tree.importances(), [1.0]);
}

#[test]
fn out_of_bag_is_for_bootstrap_only() {
    let (features, labels) = table(80, 10, 2, false, 8);
    let mut params = Params::random_forest(1);
    let plain = Forest::fit(&features, &labels, &params).expect("fits");
    assert!(plain.out_of_bag(&features, &labels).expect("runs").iter().all(Option::is_none));
    params.bootstrap = true;
    let forest = Forest::fit(&features, &labels, &params).expect("fits");
    assert!(
        forest
            .out_of_bag(&features, &labels)
            .expect("runs")
            .iter()
            .all(|p| p.is_some_and(|p| (0.0..=1.0).contains(&p)))
    );
}

#[test]
fn odd_tables_are_refused_or_handled() {
    assert!(Features::new(vec![1.0, f32::NAN], 2).expect_err("NaN").to_string().contains("feature 1"));
    assert!(Features::new(vec![], 2).is_err());
    let too_long = Features::new(vec![0.0; MAX_ROWS + 1], 1).expect_err("too many rows").to_string();
    assert!(too_long.contains("rows: 16777217 is more than"), "{too_long}");
    let constant = Features::new(vec![1.0; 20], 2).expect("finite");
    let labels = Labels::new(&[Some(true), Some(false)].repeat(5), 1).expect("whole");
    let forest = Forest::fit(&constant, &labels, &Params::random_forest(0)).expect("a stump without splits");
    assert_eq!(forest.predict(&constant).expect("predicts")[0], 0.5);
    let one_class = Labels::new(&[Some(true); 10], 1).expect("whole");
    let forest = Forest::fit(&constant, &one_class, &Params::extra_trees(0)).expect("fits");
    assert_eq!(forest.predict(&constant).expect("predicts")[0], 1.0);
    let blank = Labels::new(&[None; 10], 1).expect("whole");
    assert!(
        Forest::fit(&constant, &blank, &Params::random_forest(0))
            .expect_err("nothing known")
            .to_string()
            .contains("no known value")
    );
    let large_leaves = Params { min_samples_leaf: usize::MAX, ..Params::random_forest(0) };
    let (varied, varied_labels) = table(10, 2, 1, false, 1);
    let forest = Forest::fit(&varied, &varied_labels, &large_leaves).expect("stumps without splits");
    assert!(forest.trees.iter().all(|t| t.nodes.len() == 1));
    let too_many = Params { max_features: MaxFeatures::Count(3), ..Params::random_forest(0) };
    assert!(Forest::fit(&constant, &labels, &too_many).expect_err("too many").to_string().contains("1 to 2"));
    let (wide, wide_labels) = table(50, 3000, 2, false, 1);
    assert!(Forest::fit(&wide, &wide_labels, &Params::random_forest(0)).is_ok());
    assert!(forest.predict(&wide).is_err());
}

#[test]
fn balanced_weights_lift_a_rare_label() {
    let (features, _) = table(300, 5, 1, false, 2);
    let labels: Vec<_> = (0..300).map(|r| Some(features.row(r)[0] > 1.6)).collect();
    let labels = Labels::new(&labels, 1).expect("whole");
    let shallow = Params { max_depth: 1, trees: 20, ..Params::random_forest(0) };
    let mean = |class_weight| {
        let forest = Forest::fit(&features, &labels, &Params { class_weight, ..shallow.clone() }).expect("fits");
        forest.predict(&features).expect("predicts").iter().sum::<f64>() / 300.0
    };
    assert!(mean(ClassWeight::Balanced) > 3.0 * mean(ClassWeight::None));
}

#[test]
fn grid_search_ranks_and_breaks_ties_simply() {
    let (features, labels) = table(90, 12, 2, false, 6);
    let folds: Vec<Fold> = (0..3)
        .map(|f| Fold {
            train: (0..90).filter(|r| r % 3 != f).collect(),
            test: (0..90).filter(|r| r % 3 == f).collect(),
        })
        .collect();
    let mut grid = Grid::paper(Learner::RandomForest);
    grid.trees = vec![5, 10];
    grid.criterion = vec![Criterion::Gini];
    let rows = grid_search(&features, &labels, &folds, &grid, 0).expect("searches");
    assert_eq!(rows.len(), grid.len());
    assert!(rows.windows(2).all(|w| w[0].mean >= w[1].mean));
    assert!(rows[0].mean > 0.6, "{}", rows[0].mean);
    for w in rows.windows(2).filter(|w| w[0].mean == w[1].mean) {
        assert!((w[0].params.trees, w[0].params.max_depth) <= (w[1].params.trees, w[1].params.max_depth));
    }
}
