//! The engine against the naive executor: every network's building blocks, every instruction set, odd sizes.

#![allow(missing_docs)]

use chestnut_nn::{Engine, Isa, Options, Precision, reference};
use chestnut_zoo::graph::{Builder, Graph, Op, Padding, Window};
use chestnut_zoo::weights::{seeded, unit_sequence};
use chestnut_zoo::{Architecture, Head};

fn image(len: usize) -> Vec<f32> {
    unit_sequence("input", 0).take(len).map(|u| 2.0 * u - 1.0).collect()
}

/// Largest difference relative to the largest expected value.
fn relative(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
    found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max) / scale
}

/// Runs `graph` on `batch` images of `h` x `w` with every instruction set and compares all taps with the oracle.
fn check(graph: &Graph, batch: usize, h: usize, w: usize, tolerance: f64) {
    let weights = seeded(graph, 3);
    let channels = graph.input_channels();
    let images = image(batch * h * w * channels);
    let expected: Vec<_> = images
        .chunks(h * w * channels)
        .map(|i| reference::run(graph, &weights, i, h, w).expect("large enough"))
        .collect();
    for isa in Isa::available() {
        for winograd in [true, false] {
            let mut engine = Engine::new(
                graph.clone(),
                weights.clone(),
                Options { threads: 2, isa, winograd, ..Options::default() },
            )
            .expect("fits");
            let taps = engine.run(&images, h, w, true).expect("runs");
            let per = |v: &[f32], i: usize| v[v.len() / batch * i..v.len() / batch * (i + 1)].to_vec();
            for (i, e) in expected.iter().enumerate() {
                let map = relative(&per(&taps.feature_maps, i), &e.feature_map);
                let embedding = relative(&per(&taps.embeddings, i), &e.embedding);
                assert!(
                    map < tolerance && embedding < tolerance,
                    "{} {isa} {winograd} {h}x{w}: map {map:e}, embedding {embedding:e}",
                    graph.name
                );
                if graph.output.is_some() {
                    assert!(relative(&per(&taps.outputs, i), &e.output) < tolerance);
                }
            }
        }
    }
}

#[test]
fn every_window_matches_the_oracle() {
    let windows = [
        ([3, 3], 1, Padding::Same),
        ([3, 3], 1, Padding::Valid),
        ([3, 3], 2, Padding::Valid),
        ([3, 3], 2, Padding::Same),
        ([1, 7], 1, Padding::Same),
        ([7, 1], 1, Padding::Same),
        ([5, 5], 1, Padding::Same),
        ([1, 1], 2, Padding::Same),
        ([1, 1], 1, Padding::Valid),
    ];
    for (size, stride, padding) in windows {
        for (h, w) in [(9, 14), (13, 7)] {
            for filters in [24, 80] {
                let mut b = Builder::new(3);
                let mut x = b.conv("first", 0, 40, [3, 3], 1, Padding::Each(1));
                x = b.batch_norm("bn", x, 1e-3, true);
                x = b.push("c", Op::Conv { window: Window { size, stride, padding }, filters, bias: true }, &[x]);
                x = b.relu("r", x);
                check(&b.finish("window", x, &Head::sigmoid(vec!["a".into(), "b".into()])), 3, h, w, 1e-5);
            }
        }
    }
}

#[test]
fn fused_blocks_match_the_oracle() {
    // A DenseNet block with its transition, an Xception middle block, an Inception residual: all the fusions of the plan.
    let mut b = Builder::new(3);
    let x = b.conv("c1", 0, 32, [7, 7], 2, Padding::Each(3));
    let y = b.batch_norm("bn1", x, 1e-3, false);
    let y = b.relu("r1", y);
    let y = b.conv("c2", y, 48, [1, 1], 1, Padding::Valid);
    let y = b.batch_norm("bn2", y, 1e-3, true);
    let y = b.relu("r2", y);
    let y = b.conv("c3", y, 16, [3, 3], 1, Padding::Same);
    let x = b.push("cat", Op::Concat, &[x, y]);
    let y = b.batch_norm("bn3", x, 1e-3, true);
    let y = b.relu("r3", y);
    let y = b.conv("c4", y, 24, [1, 1], 1, Padding::Valid);
    let x = b.push("avg", Op::AvgPool(Window { size: [2, 2], stride: 2, padding: Padding::Valid }), &[y]);
    let y = b.relu("r4", x);
    let window = Window { size: [3, 3], stride: 1, padding: Padding::Same };
    let y = b.push("s.depthwise", Op::Depthwise { window }, &[y]);
    let y = b.conv("s.pointwise", y, 24, [1, 1], 1, Padding::Valid);
    let y = b.batch_norm("bn4", y, 1e-3, true);
    let x = b.push("add", Op::Add { scale: 1.0 }, &[x, y]);
    let y = b.push(
        "up",
        Op::Conv { window: Window { size: [1, 1], stride: 1, padding: Padding::Same }, filters: 24, bias: true },
        &[x],
    );
    let x = b.push("scaled", Op::Add { scale: 0.17 }, &[x, y]);
    let x = b.relu("r5", x);
    let side = b.conv("side", x, 24, [1, 1], 2, Padding::Same);
    let pool = b.push("max", Op::MaxPool(Window { size: [3, 3], stride: 2, padding: Padding::Same }), &[x]);
    let x = b.push("sum", Op::Add { scale: 1.0 }, &[pool, side]);
    let graph = b.finish("fused", x, &Head::chexpert());
    for (h, w) in [(37, 50), (64, 41)] {
        check(&graph, 2, h, w, 2e-6);
    }
}

/// `first`, then a depthwise convolution with this border, then a 1x1 with that.
fn depthwise(border: Padding, behind: Padding) -> Graph {
    let mut b = Builder::new(3);
    let x = b.conv("first", 0, 24, [3, 3], 1, Padding::Same);
    let window = Window { size: [3, 3], stride: 1, padding: border };
    let x = b.push("depthwise", Op::Depthwise { window }, &[x]);
    let x = b.conv("pointwise", x, 24, [1, 1], 1, behind);
    b.finish("depthwise", x, &Head::none())
}

/// `first`, then a pooling, batch normalisation, ReLU and 1x1 with these borders.
fn pooled(pool: Padding, behind: Padding) -> Graph {
    let mut b = Builder::new(3);
    let x = b.conv("first", 0, 24, [3, 3], 1, Padding::Same);
    let x = b.push("pool", Op::MaxPool(Window { size: [2, 2], stride: 2, padding: pool }), &[x]);
    let x = b.batch_norm("bn", x, 1e-3, true);
    let x = b.relu("relu", x);
    let x = b.conv("pointwise", x, 24, [1, 1], 1, behind);
    b.finish("pooled", x, &Head::none())
}

#[test]
fn borders_match_the_oracle_or_are_refused() {
    for border in [Padding::Valid, Padding::Same, Padding::Each(0), Padding::Each(1), Padding::Each(2)] {
        check(&depthwise(border, Padding::Valid), 2, 9, 14, 1e-5);
    }
    for behind in [Padding::Valid, Padding::Same, Padding::Each(0), Padding::Each(1)] {
        check(&pooled(Padding::Each(1), behind), 2, 9, 14, 1e-5);
    }
    for graph in [
        depthwise(Padding::Each(4), Padding::Valid),
        depthwise(Padding::Same, Padding::Each(1)),
        pooled(Padding::Each(2), Padding::Valid),
        pooled(Padding::Each(5), Padding::Valid),
    ] {
        let refused = Engine::new(graph.clone(), seeded(&graph, 1), Options::default()).err().expect("refused");
        assert!(refused.to_string().contains("border"), "{refused}");
    }
}

#[test]
fn whole_networks_match_the_oracle_on_small_images() {
    for a in [Architecture::DenseNet121, Architecture::Xception] {
        check(&a.graph(&Head::chexpert()), 1, 75, 71, 1e-4);
    }
}

#[test]
fn bits_do_not_depend_on_threads_or_batch() {
    let (h, w) = (64, 80);
    for a in [Architecture::DenseNet121, Architecture::InceptionResNetV2] {
        let (h, w) = if a == Architecture::InceptionResNetV2 { (h + 30, w + 20) } else { (h, w) };
        let graph = a.graph(&Head::chexpert());
        let images = image(5 * h * w * 3);
        let run = |threads, images: &[f32]| {
            let options = Options { threads, ..Options::default() };
            Engine::new(graph.clone(), seeded(&graph, 1), options).expect("fits").run(images, h, w, true).expect("runs")
        };
        let one = run(1, &images);
        for threads in [2, 3] {
            assert!(one == run(threads, &images), "{a}: {threads} threads");
        }
        let last = run(2, &images[4 * h * w * 3..]);
        let n = one.embeddings.len() / 5;
        assert!(last.embeddings == one.embeddings[4 * n..], "{a}: alone and in a batch");
    }
}

/// Length of the difference, relative to the expected length.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let apart: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (apart / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

/// Instruction sets that multiply pairs of bf16 here.
fn with_bf16() -> impl Iterator<Item = Isa> {
    Isa::available().into_iter().filter(|&isa| Precision::Bf16.runs_on(isa))
}

#[test]
fn one_bf16_layer_is_the_same_on_every_instruction_set() {
    // Through two layers a sum that rounds the other way would turn over roundings to bf16, and through ten most of them.
    for (size, stride) in [([1, 1], 1), ([1, 1], 2), ([3, 3], 2), ([1, 7], 1), ([5, 5], 1)] {
        let mut b = Builder::new(3);
        let x = b.conv("first", 0, 40, [3, 3], 1, Padding::Each(1));
        let window = Window { size, stride, padding: Padding::Same };
        let x = b.push("c", Op::Conv { window, filters: 80, bias: true }, &[x]);
        let graph = b.finish("layer", x, &Head::none());
        let images = image(2 * 13 * 10 * 3);
        let run = |isa, precision| {
            let options = Options { threads: 2, isa, precision, ..Options::default() };
            let taps = Engine::new(graph.clone(), seeded(&graph, 1), options).expect("fits").run(&images, 13, 10, true);
            taps.expect("runs").feature_maps
        };
        let plain = run(Isa::Portable, Precision::Bf16);
        let rounding = distance(&plain, &run(Isa::Portable, Precision::F32));
        assert!((1e-4..1e-2).contains(&rounding), "{size:?}: bf16 is {rounding:e} from f32");
        for isa in with_bf16() {
            let apart = distance(&run(isa, Precision::Bf16), &plain);
            assert!(apart < 2e-5, "{size:?} {isa}: {apart:e} from plain Rust");
        }
    }
}

#[test]
fn bf16_is_near_f32_for_any_threads_and_batch() {
    for (a, h, w) in [(Architecture::DenseNet121, 64, 75), (Architecture::InceptionResNetV2, 110, 99)] {
        let graph = a.graph(&Head::none());
        let images = image(3 * h * w * 3);
        let run = |threads, isa, precision, images: &[f32]| {
            let options = Options { threads, isa, precision, ..Options::default() };
            let taps = Engine::new(graph.clone(), seeded(&graph, 1), options).expect("fits").run(images, h, w, false);
            taps.expect("runs").embeddings
        };
        let exact = run(2, Isa::detect(), Precision::F32, &images);
        for isa in with_bf16() {
            let found = run(2, isa, Precision::Bf16, &images);
            let rounding = distance(&found, &exact);
            assert!((1e-4..3e-2).contains(&rounding), "{a} {isa}: bf16 is {rounding:e} from f32");
            assert!(found == run(1, isa, Precision::Bf16, &images), "{a} {isa}: threads");
            let n = found.len() / 3;
            let alone = run(2, isa, Precision::Bf16, &images[2 * h * w * 3..]);
            assert!(alone == found[2 * n..], "{a} {isa}: alone and in a batch");
        }
    }
    let graph = Architecture::Vgg16.graph(&Head::none());
    for isa in Isa::available().into_iter().filter(|&isa| !Precision::Bf16.runs_on(isa)) {
        let options = Options { isa, precision: Precision::Bf16, ..Options::default() };
        let message = Engine::new(graph.clone(), seeded(&graph, 1), options).err().expect("refused").to_string();
        assert!(message.contains("AVX512-BF16"), "{message}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let graph = Architecture::InceptionResNetV2.graph(&Head::none());
    let mut engine = Engine::new(graph.clone(), seeded(&graph, 1), Options::default()).expect("fits");
    assert!(
        engine
            .run(&image(20 * 20 * 3), 20, 20, false)
            .expect_err("too small")
            .to_string()
            .contains("larger input size")
    );
    assert!(engine.run(&[0.0; 100], 20, 20, false).is_err());
    let mut weights = seeded(&graph, 1);
    weights.get_mut("conv_7b.kernel").expect("exists").data[7] = f32::NAN;
    weights.remove("block8_10_conv.bias");
    let message = Engine::new(graph, weights, Options::default()).err().expect("must be refused").to_string();
    assert!(message.contains("conv_7b.kernel") && message.contains("block8_10_conv.bias"), "{message}");
}
