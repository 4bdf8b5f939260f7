//! From the names in a file to those of a graph: counters of a session, what does not fit, heads, other epsilons.

use crate::with_head;
use chestnut_zoo::Architecture;
use chestnut_zoo::head::{Activation, Head};
use chestnut_zoo::read::{HeadHint, ReadError, SourceFormat, SourceLayer, SourceModel};
use chestnut_zoo::weights::{Tensor, Weights, seeded};

/// A file's content as some other program would hold it: one layer per node, under `rename`d names.
fn source(weights: &Weights, rename: impl Fn(&str) -> String) -> SourceModel {
    let mut layers: Vec<SourceLayer> = Vec::new();
    for (name, tensor) in weights {
        let split = name.find(".depthwise.").or_else(|| name.find(".pointwise.")).or_else(|| name.rfind('.'));
        let (layer, kind) = name.split_at(split.expect("a kind"));
        let layer = rename(layer);
        if !layers.iter().any(|l| l.name == layer) {
            layers.push(SourceLayer { name: layer.clone(), ..SourceLayer::default() });
        }
        let place = layers.iter_mut().find(|l| l.name == layer).expect("just added");
        place.tensors.push((kind[1..].to_owned(), tensor.clone()));
    }
    SourceModel {
        format: SourceFormat::KerasHdf5Weights,
        input_size: None,
        layers,
        recorded: chestnut_zoo::read::Recorded::default(),
        notes: Vec::new(),
    }
}

#[test]
fn session_counters_are_matched_by_their_order() {
    let graph = Architecture::Xception.graph(&Head::chexpert());
    let weights = seeded(&graph, 1);
    let renamed =
        source(&weights, |layer| match layer.strip_prefix("conv2d").or(layer.strip_prefix("batch_normalization")) {
            Some("") => format!("{layer}_8"),
            // 8, 9, 10, 11: alphabetical order would be wrong.
            Some(number) => {
                let stem = layer.trim_end_matches(number);
                format!("{stem}_{}", number[1..].parse::<usize>().expect("a number") + 8)
            }
            None => layer.replace("head.0", "dense_3"),
        });
    assert_eq!(renamed.guess(&HeadHint::default()).expect("fits"), Architecture::Xception);
    let fitted = renamed.fit(Architecture::Xception, &HeadHint::default()).expect("fits");
    assert_eq!(fitted.weights, weights);
    assert_eq!(fitted.head, Head::chexpert());
    assert!(fitted.notes.iter().any(|n| n.contains("sigmoid")), "assumptions are noted: {:?}", fitted.notes);
}

#[test]
fn what_does_not_fit_is_listed() {
    let weights = seeded(&Architecture::Vgg16.graph(&Head::none()), 1);
    let fit = |weights: &Weights, architecture: Architecture| {
        source(weights, str::to_owned)
            .fit(architecture, &HeadHint::default())
            .map(|_| ())
            .expect_err("does not fit")
            .to_string()
    };
    let wrong = fit(&weights, Architecture::DenseNet121);
    assert!(wrong.contains("conv1_conv.kernel") && wrong.contains("block1_conv1.bias"), "{wrong}");

    let mut missing = weights.clone();
    missing.remove("block3_conv2.bias");
    assert!(fit(&missing, Architecture::Vgg16).contains("1 tensors missing: block3_conv2.bias"));

    let mut extra = weights.clone();
    extra.insert("side_conv.kernel".into(), Tensor { shape: vec![1, 1, 1, 1], data: vec![0.0] });
    assert!(fit(&extra, Architecture::Vgg16).contains("side_conv.kernel"));

    let mut reshaped = weights.clone();
    reshaped.insert("block5_conv3.bias".into(), Tensor { shape: vec![2, 256], data: vec![0.0; 512] });
    assert!(fit(&reshaped, Architecture::Vgg16).contains("block5_conv3.bias is [2, 256], needed [512]"));

    for bad in [f32::NAN, f32::INFINITY] {
        let mut poisoned = weights.clone();
        poisoned.get_mut("block4_conv1.kernel").expect("there").data[77] = bad;
        let error = fit(&poisoned, Architecture::Vgg16);
        assert!(error.contains("NaN or infinity: block4_conv1.kernel"), "{error}");
    }
    let guess = source(&missing, str::to_owned).guess(&HeadHint::default()).expect_err("nothing fits").to_string();
    assert!(guess.contains("vgg16") && guess.contains("block3_conv2.bias"), "{guess}");
}

#[test]
fn every_head_is_welcome() {
    let two = with_head(&[(128, Activation::Relu), (2, Activation::Linear)]);
    let weights = seeded(&Architecture::Vgg16.graph(&two), 1);
    let file = source(&weights, |l| l.replace("head.0", "dense_11").replace("head.1", "dense_12"));

    // What the user says.
    let hint = HeadHint {
        labels: Some(vec!["ill".into(), "well".into()]),
        activations: Some(vec![Activation::Relu, Activation::Linear]),
    };
    let fitted = file.clone().fit(Architecture::Vgg16, &hint).expect("fits");
    assert_eq!((fitted.head.layers, fitted.head.labels), (two.layers, vec!["ill".to_owned(), "well".to_owned()]));
    assert_eq!(fitted.weights, weights);
    let short = HeadHint { labels: Some(vec!["ill".into()]), activations: None };
    assert!(matches!(file.clone().fit(Architecture::Vgg16, &short), Err(ReadError::Labels { given: 1, outputs: 2 })));

    // What the configuration says: an activation of its own layer, and one that is not known here.
    let dense = |file: &SourceModel| file.layers.iter().position(|l| l.name == "dense_12").expect("there");
    let mut configured = file.clone();
    for layer in &mut configured.layers {
        let (class, activation) = match layer.name.as_str() {
            "dense_11" => ("Dense", "relu"),
            "dense_12" => ("Dense", "linear"),
            _ => ("Conv2D", "relu"),
        };
        (layer.class, layer.activation) = (Some(class.to_owned()), Some(activation.to_owned()));
    }
    let behind = |class: &str, activation: Option<&str>| SourceLayer {
        name: class.to_lowercase(),
        class: Some(class.to_owned()),
        activation: activation.map(str::to_owned),
        ..SourceLayer::default()
    };
    let mut softmax = configured.clone();
    let at = dense(&softmax) + 1;
    softmax.layers.insert(at, behind("Activation", Some("softmax")));
    softmax.layers.insert(at, behind("Dropout", None));
    let fitted = softmax.fit(Architecture::Vgg16, &HeadHint::default()).expect("fits");
    let activations: Vec<_> = fitted.head.layers.iter().map(|l| l.activation).collect();
    assert_eq!(activations, [Activation::Relu, Activation::Softmax]);

    let mut tanh = configured;
    let at = dense(&tanh);
    tanh.layers[at].activation = Some("tanh".into());
    let error = tanh.clone().fit(Architecture::Vgg16, &short).expect_err("labels need a head").to_string();
    assert!(error.contains("tanh"), "{error}");
    let fitted = tanh.fit(Architecture::Vgg16, &HeadHint::default()).expect("the embedding does not need it");
    assert_eq!(fitted.head, Head::none());
    assert!(fitted.notes.iter().any(|n| n.contains("tanh")), "{:?}", fitted.notes);
}

#[test]
fn fully_connected_layers_on_the_flattened_map_are_left_out() {
    let weights = seeded(&Architecture::Vgg16.graph(&Head::none()), 1);
    let mut file = source(&weights, str::to_owned);
    for (name, rows, units) in [("fc1", 25_088, 8), ("fc2", 8, 8), ("predictions", 8, 1000)] {
        let tensors = vec![
            ("kernel".to_owned(), Tensor { shape: vec![rows, units], data: vec![0.0; rows * units] }),
            ("bias".to_owned(), Tensor { shape: vec![units], data: vec![0.0; units] }),
        ];
        file.layers.push(SourceLayer { name: name.into(), tensors, ..SourceLayer::default() });
    }
    let fitted = file.fit(Architecture::Vgg16, &HeadHint::default()).expect("fits without them");
    assert_eq!(fitted.head, Head::none());
    assert_eq!(fitted.weights, weights);
    assert!(fitted.notes.iter().any(|n| n.contains("fc1") && n.contains("flattened")), "{:?}", fitted.notes);
}

#[test]
fn another_epsilon_is_moved_into_the_variance() {
    let graph = Architecture::DenseNet121.graph(&Head::none());
    let weights = seeded(&graph, 1);
    let mut file = source(&weights, str::to_owned);
    for layer in &mut file.layers {
        if layer.name == "conv1_bn" {
            layer.epsilon = Some(0.5);
        }
    }
    let fitted = file.fit(Architecture::DenseNet121, &HeadHint::default()).expect("fits");
    let (old, new) = (&weights["conv1_bn.moving_variance"].data, &fitted.weights["conv1_bn.moving_variance"].data);
    for (old, new) in old.iter().zip(new) {
        assert!((old + 0.5 - (new + 1.001e-5)).abs() < 1e-6, "{old} {new}");
    }
    assert_eq!(weights["bn.moving_variance"], fitted.weights["bn.moving_variance"]);
}

#[test]
fn a_variance_of_0_stays_usable_under_a_larger_epsilon() {
    let graph = Architecture::DenseNet121.graph(&Head::none());
    let fit = |variance: f32| {
        let mut weights = seeded(&graph, 1);
        weights.get_mut("conv1_bn.moving_variance").expect("there").data[3] = variance;
        let mut file = source(&weights, str::to_owned);
        // As PyTorch saves it; Keras's DenseNet adds 1.001e-5.
        file.layers.iter_mut().filter(|l| l.name == "conv1_bn").for_each(|l| l.epsilon = Some(1e-5));
        file.fit(Architecture::DenseNet121, &HeadHint::default())
    };
    let fitted = fit(0.0).expect("a channel that never changes is no damage");
    let shifted = fitted.weights["conv1_bn.moving_variance"].data[3];
    assert!((shifted + 1.001e-5 - 1e-5).abs() < 1e-11, "{shifted:e}");
    let error = fit(-1e-3).expect_err("damaged").to_string();
    assert!(error.contains("conv1_bn.moving_variance (a negative variance)"), "{error}");
}
