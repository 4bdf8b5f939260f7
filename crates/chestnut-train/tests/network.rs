//! Whole networks that learn: the same outputs as the engine, gradients against finite differences, what must not move.

#![allow(missing_docs)]

use chestnut_nn::training::Kernels;
use chestnut_nn::{Engine, Isa, Options};
use chestnut_train::depth;
use chestnut_train::{Batch, Cpu, Depth, Learner, TrainError, Trained, Update, initial_weights};
use chestnut_zoo::graph::{Builder, Op, Padding, Window};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Activation, Architecture, Graph, Head, HeadLayer, Weights};

fn signed(name: &str, len: usize) -> Vec<f32> {
    unit_sequence(name, 0).take(len).map(|u| 2.0 * u - 1.0).collect()
}

fn linear(units: usize) -> Head {
    Head { layers: vec![HeadLayer { units, activation: Activation::Linear }], labels: vec![] }
}

/// Every operation, every way of reading: a concatenation that grows, a sum of views, a normalisation that is read
/// twice, one without gamma, strides with odd borders, a hidden Dense layer.
fn everything() -> Graph {
    let window = |n: usize, stride, padding| Window { size: [n, n], stride, padding };
    let mut b = Builder::new(3);
    let x = b.conv("c1", 0, 8, [3, 3], 2, Padding::Same);
    let x = b.batch_norm("n1", x, 1e-3, true);
    let x = b.relu("r1", x);
    let x = b.push("max", Op::MaxPool(window(3, 2, Padding::Same)), &[x]);
    let y = b.batch_norm("n2", x, 1e-3, false);
    let y = b.relu("r2", y);
    let y = b.conv("c2", y, 12, [1, 1], 1, Padding::Valid);
    let y = b.batch_norm("n3", y, 1e-3, true);
    let y = b.relu("r3", y);
    let y = b.conv("c3", y, 6, [3, 3], 1, Padding::Each(1));
    let x = b.push("cat", Op::Concat, &[x, y]);
    let n4 = b.batch_norm("n4", x, 1e-3, true);
    let r4 = b.relu("r4", n4);
    let d = b.push("s.depthwise", Op::Depthwise { window: window(3, 1, Padding::Same) }, &[r4]);
    let p = b.push("s.pointwise", Op::Conv { window: window(1, 1, Padding::Valid), filters: 14, bias: true }, &[d]);
    let p = b.batch_norm("n5", p, 1e-3, true);
    let x = b.push("sum", Op::Add { scale: 0.4 }, &[n4, p]);
    let x = b.relu("r6", x);
    let down = b.conv("c4", x, 10, [1, 1], 2, Padding::Same);
    let wide = b.push("s2.depthwise", Op::Depthwise { window: window(3, 2, Padding::Same) }, &[x]);
    let mean = b.push("mean", Op::AvgPool(window(3, 2, Padding::Same)), &[x]);
    let x = b.push("cat2", Op::Concat, &[down, wide, mean]);
    let hidden = HeadLayer { units: 7, activation: Activation::Relu };
    let last = HeadLayer { units: 3, activation: Activation::Sigmoid };
    b.finish("everything", x, &Head { layers: vec![hidden, last], labels: vec!["a".into(), "b".into(), "c".into()] })
}

/// Four images of 19 x 17 with soft targets, one of them unknown.
struct Data {
    images: Vec<f32>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

impl Data {
    fn new() -> Self {
        let mut weights = vec![1.0; 12];
        weights[5] = 0.0;
        Self {
            images: signed("input", 4 * 19 * 17 * 3),
            targets: unit_sequence("targets", 0).take(12).collect(),
            weights,
        }
    }

    fn batch(&self) -> Batch<'_> {
        Batch { images: &self.images, height: 19, width: 17, targets: &self.targets, weights: &self.weights }
    }
}

fn loss(graph: &Graph, weights: &Weights, data: &Data) -> f64 {
    Cpu::new(graph, weights, Update::default(), &Trained::All).unwrap().gradients(&data.batch()).unwrap().loss
}

#[test]
fn outputs_equal_the_engines_for_all_seven_networks() {
    for a in Architecture::ALL {
        let graph = a.graph(&linear(5));
        let weights = seeded(&graph, 0);
        let size = if a.name() == "inception_resnet_v2" { 107 } else { 75 };
        let images = signed("input", 2 * size * size * 3);
        let mut cpu = Cpu::new(&graph, &weights, Update::default(), &Trained::All).unwrap();
        let found = cpu.logits(&images, size, size).unwrap();
        let mut engine = Engine::new(graph, weights, Options::default()).unwrap();
        let expected = engine.run(&images, size, size, false).unwrap().outputs;
        let top = expected.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (f, e) in found.iter().zip(&expected) {
            assert!((f - e).abs() < 1e-4 * top, "{}: {f} for {e}", a.name());
        }
    }
}

#[test]
fn a_front_in_the_engine_and_a_tail_that_learns_are_the_whole_network() {
    for a in Architecture::ALL {
        let graph = a.graph(&linear(3));
        let weights = seeded(&graph, 0);
        let size = if a.name() == "inception_resnet_v2" { 107 } else { 75 };
        let images = signed("input", 2 * size * size * 3);
        let whole = Cpu::new(&graph, &weights, Update::default(), &Trained::All).unwrap().logits(&images, size, size);
        let whole = whole.unwrap();
        let top = whole.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for depth in [Depth::Head, Depth::Block] {
            let cut = depth::split(&graph, depth).unwrap();
            let front = cut.front.unwrap();
            let shape = front.shapes(size, size).unwrap()[front.feature_map];
            let mut engine =
                Engine::new(front.clone(), depth::weights_of(&front, &weights), Options::default()).unwrap();
            let maps = engine.run(&images, size, size, true).unwrap().feature_maps;
            let tail = depth::weights_of(&cut.tail, &weights);
            let mut cpu = Cpu::new(&cut.tail, &tail, Update::default(), &Trained::All).unwrap();
            let found = cpu.logits(&maps, shape.height, shape.width).unwrap();
            for (f, w) in found.iter().zip(&whole) {
                assert!((f - w).abs() < 1e-4 * top, "{} {}: {f} for {w}", a.name(), depth.name());
            }
        }
    }
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    let graph = everything();
    let weights = seeded(&graph, 0);
    let data = Data::new();
    let mut cpu = Cpu::new(&graph, &weights, Update::default(), &Trained::All).unwrap();
    let gradients = cpu.gradients(&data.batch()).unwrap().tensors;
    assert_eq!(gradients.len(), graph.tensors().iter().filter(|(n, _)| !n.contains(".moving_")).count());
    for (name, gradient) in &gradients {
        let direction = signed(name, gradient.data.len());
        let slope: f64 = gradient.data.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        // A small and a large step: one of them is free of a kink and of rounding.
        let close = [1e-2_f32, 3e-3, 1e-3].map(|step| {
            let moved = |sign: f32| {
                let mut w = weights.clone();
                let t = w.get_mut(name).unwrap();
                t.data.iter_mut().zip(&direction).for_each(|(v, d)| *v += sign * step * d);
                loss(&graph, &w, &data)
            };
            (((moved(1.0) - moved(-1.0)) / (2.0 * f64::from(step))) - slope).abs()
        });
        let norm = gradient.data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let best = close.into_iter().fold(f64::INFINITY, f64::min);
        assert!(best < 0.02 * norm + 1e-4, "{name}: slope {slope}, gradient norm {norm}, differences {close:?}");
    }
}

#[test]
fn instruction_sets_and_thread_counts_agree() {
    let graph = everything();
    let weights = seeded(&graph, 0);
    let data = Data::new();
    let run = |isa: Isa, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut cpu = Cpu::with(Kernels::with(isa), &graph, &weights, Update::default(), &Trained::All).unwrap();
            cpu.gradients(&data.batch()).unwrap()
        })
    };
    let one = run(Isa::detect(), 1);
    for threads in [2, 3] {
        let more = run(Isa::detect(), threads);
        assert_eq!(one.loss.to_bits(), more.loss.to_bits());
        assert_eq!(one.tensors, more.tensors, "{threads} threads");
    }
    for isa in Isa::available() {
        let other = run(isa, 1);
        assert!((one.loss - other.loss).abs() < 1e-5);
        for (name, g) in &one.tensors {
            let norm = g.data.iter().map(|v| v * v).sum::<f32>().sqrt();
            let off = g.data.iter().zip(&other.tensors[name].data).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(off < 1e-3 * norm + 1e-6, "{isa} {name}: {off} of {norm}");
        }
    }
}

#[test]
fn it_learns_goes_on_and_keeps_frozen_layers() {
    let graph = everything();
    let start = initial_weights(&graph, 7);
    let data = Data::new();
    let head = graph.nodes.iter().enumerate().filter(|(_, n)| n.name.starts_with("head") || n.name == "n5");
    let only = Trained::Only(head.map(|(i, _)| i).collect());
    for trained in [Trained::All, only] {
        let new = || Cpu::new(&graph, &start, Update::default(), &trained).unwrap();
        let mut cpu = new();
        let first = cpu.step(&data.batch(), 3e-3).unwrap();
        for _ in 0..60 {
            cpu.step(&data.batch(), 3e-3).unwrap();
        }
        let half = cpu.state().unwrap();
        assert_eq!(half.step, 61);
        let last = (0..60).map(|_| cpu.step(&data.batch(), 3e-3).unwrap()).last().unwrap();
        assert!(last < first - 0.05, "{last} after {first}");
        // Another learner that takes the state over ends with the same bits.
        let mut other = new();
        other.restore(&half).unwrap();
        let again = (0..60).map(|_| other.step(&data.batch(), 3e-3).unwrap()).last().unwrap();
        assert_eq!(last.to_bits(), again.to_bits());
        assert_eq!(cpu.state().unwrap(), other.state().unwrap());
        if let Trained::Only(_) = trained {
            let end = cpu.state().unwrap().weights;
            for (name, tensor) in &start {
                let moves = name.starts_with("head") || name.starts_with("n5.");
                assert_eq!(end[name] != *tensor, moves, "{name}");
            }
        }
    }
}

#[test]
fn what_cannot_be_learned_from_leaves_the_state_as_it_was() {
    let graph = everything();
    let mut cpu = Cpu::new(&graph, &seeded(&graph, 0), Update::default(), &Trained::All).unwrap();
    let good = Data::new();
    cpu.step(&good.batch(), 1e-3).unwrap();
    let before = cpu.state().unwrap();
    let mut bad = Data::new();
    bad.images[100] = f32::NAN;
    assert_eq!(cpu.step(&bad.batch(), 1e-3), Err(TrainError::NotFinite { step: 1 }));
    let short = Batch { targets: &good.targets[..3], ..good.batch() };
    assert!(matches!(cpu.step(&short, 1e-3), Err(TrainError::Shape(_))));
    assert!(matches!(cpu.logits(&good.images[..7], 19, 17), Err(TrainError::Shape(_))));
    assert_eq!(cpu.state().unwrap(), before);

    let other = Architecture::ALL[0].graph(&linear(2));
    assert!(matches!(
        Cpu::new(&other, &seeded(&graph, 0), Update::default(), &Trained::All),
        Err(TrainError::Shape(_))
    ));
    let mut fresh = Cpu::new(&other, &seeded(&other, 0), Update::default(), &Trained::All).unwrap();
    assert!(matches!(fresh.restore(&before), Err(TrainError::Shape(_))));
}

#[test]
fn an_average_moves_towards_all_weights() {
    let graph = everything();
    let start = seeded(&graph, 0);
    let mut cpu = Cpu::new(&graph, &start, Update::default(), &Trained::All).unwrap();
    cpu.step(&Data::new().batch(), 1e-2).unwrap();
    let end = cpu.state().unwrap().weights;
    let mut average = start.clone();
    cpu.blend_weights(&mut average, 0.75).unwrap();
    assert!(average.keys().eq(start.keys()));
    for (name, tensor) in &average {
        let wanted: Vec<f32> =
            start[name].data.iter().zip(&end[name].data).map(|(old, new)| old + (1.0 - 0.75) * (new - old)).collect();
        assert_eq!(tensor.data, wanted, "{name}");
    }
    assert!(average["c1.kernel"] != start["c1.kernel"] && average["n1.moving_mean"] != start["n1.moving_mean"]);
    assert_eq!(cpu.state().unwrap().weights, end, "the network itself stays");
}

#[test]
fn heads_that_would_be_taught_wrongly_are_refused() {
    let taught = |hidden: Activation, last: Activation| {
        let mut b = Builder::new(3);
        let x = b.conv("c1", 0, 8, [3, 3], 2, Padding::Same);
        let layers = [(5, hidden), (3, last)].map(|(units, activation)| HeadLayer { units, activation });
        let graph = b.finish("small", x, &Head { layers: layers.to_vec(), labels: vec![] });
        Cpu::new(&graph, &seeded(&graph, 0), Update::default(), &Trained::All).map(|_| ()).map_err(|e| e.to_string())
    };
    for hidden in [Activation::Relu, Activation::Linear] {
        for last in [Activation::Sigmoid, Activation::Linear] {
            assert_eq!(taught(hidden, last), Ok(()));
        }
    }
    for hidden in [Activation::Sigmoid, Activation::Softmax] {
        let refused = taught(hidden, Activation::Sigmoid).unwrap_err();
        assert!(refused.contains("head.0 of small") && refused.contains("between Dense layers"), "{refused}");
    }
    for last in [Activation::Relu, Activation::Softmax] {
        let refused = taught(Activation::Relu, last).unwrap_err();
        assert!(refused.contains("head.1 of small") && refused.contains("one probability per label"), "{refused}");
    }
}

/// A network in which images do not meet: no batch normalisation.
fn without_norms() -> Graph {
    let mut b = Builder::new(3);
    let x = b.conv("c1", 0, 8, [3, 3], 2, Padding::Same);
    let x = b.relu("r1", x);
    let x = b.conv("c2", x, 10, [3, 3], 2, Padding::Same);
    let last = HeadLayer { units: 3, activation: Activation::Sigmoid };
    b.finish("plain", x, &Head { layers: vec![last], labels: vec!["a".into(), "b".into(), "c".into()] })
}

/// The images of `data` in batches of these sizes.
fn parts<'a>(data: &'a Data, sizes: &[usize]) -> Vec<Batch<'a>> {
    let mut first = 0;
    let cut = sizes.iter().map(|&size| {
        let (from, to) = (first, first + size);
        first = to;
        Batch {
            images: &data.images[from * 19 * 17 * 3..to * 19 * 17 * 3],
            targets: &data.targets[from * 3..to * 3],
            weights: &data.weights[from * 3..to * 3],
            ..data.batch()
        }
    });
    cut.collect()
}

#[test]
fn several_small_batches_teach_as_one_large_batch() {
    let graph = without_norms();
    let weights = seeded(&graph, 0);
    let mut data = Data::new();
    // Batches count by their terms and not each the same.
    data.weights[0] = 3.0;
    let new = || Cpu::new(&graph, &weights, Update::default(), &Trained::All).unwrap();
    let whole = new().gradients(&data.batch()).unwrap();
    for sizes in [vec![4], vec![1, 3], vec![2, 2], vec![1, 1, 1, 1]] {
        let found = new().gradients_of(&parts(&data, &sizes)).unwrap();
        assert!((found.loss - whole.loss).abs() < 1e-6, "{sizes:?}");
        assert_eq!(found.tensors.len(), whole.tensors.len());
        for (name, g) in &whole.tensors {
            let norm = g.data.iter().map(|v| v * v).sum::<f32>().sqrt();
            let off = g.data.iter().zip(&found.tensors[name].data).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(norm > 0.0 && off < 1e-5 * norm, "{sizes:?} {name}: {off} of {norm}");
        }
    }
    // The mean of the batches' own means is another gradient.
    let alone = new().gradients(&parts(&data, &[1, 3])[0]).unwrap();
    assert!((alone.loss - whole.loss).abs() > 1e-3);
}

#[test]
fn each_batch_of_an_update_moves_the_running_statistics_once() {
    let graph = everything();
    let weights = seeded(&graph, 0);
    let data = Data::new();
    let new = || Cpu::new(&graph, &weights, Update::default(), &Trained::All).unwrap();
    let halves = parts(&data, &[2, 2]);
    let mut many = new();
    many.step_many(&halves, 1e-3).unwrap();
    let state = many.state().unwrap();
    assert_eq!(state.step, 1, "one update");
    // At a rate of 0 single steps leave the weights, and the statistics follow the same two batches.
    let mut still = new();
    halves.iter().for_each(|half| assert!(still.step(half, 0.0).is_ok()));
    let moved = still.state().unwrap().weights;
    for (name, tensor) in state.weights.iter().filter(|(name, _)| name.contains(".moving_")) {
        assert_eq!(*tensor, moved[name], "{name}");
        assert_ne!(*tensor, weights[name], "{name}");
    }
    // One batch given as a list is a step, bit for bit.
    let (mut one, mut listed) = (new(), new());
    let losses = (one.step(&data.batch(), 1e-3).unwrap(), listed.step_many(&[data.batch()], 1e-3).unwrap());
    assert_eq!(losses.0.to_bits(), losses.1.to_bits());
    assert_eq!(one.state().unwrap(), listed.state().unwrap());
}

#[test]
fn a_bad_batch_among_good_ones_leaves_the_state_as_it_was() {
    let graph = everything();
    let mut cpu = Cpu::new(&graph, &seeded(&graph, 0), Update::default(), &Trained::All).unwrap();
    let good = Data::new();
    cpu.step(&good.batch(), 1e-3).unwrap();
    let before = cpu.state().unwrap();
    let mut bad = Data::new();
    bad.images[3 * 19 * 17 * 3] = f32::NAN;
    assert_eq!(cpu.step_many(&parts(&bad, &[2, 2]), 1e-3), Err(TrainError::NotFinite { step: 1 }));
    let short = Batch { weights: &good.weights[..3], ..good.batch() };
    assert!(matches!(cpu.step_many(&[good.batch(), short], 1e-3), Err(TrainError::Shape(_))));
    assert!(matches!(cpu.step_many(&[], 1e-3), Err(TrainError::Shape(_))));
    assert_eq!(cpu.state().unwrap(), before);
}
