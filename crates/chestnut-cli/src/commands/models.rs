//! `chestnut models`

use super::models_folder;
use crate::Outcome;
use crate::args::{Models, ModelsAdd};
use anyhow::anyhow;
use chestnut::embed::Network;
use chestnut_zoo::read::HeadHint;
use chestnut_zoo::store::{self, AddOptions, ModelRecord};
use chestnut_zoo::{Activation, Architecture};

pub(crate) fn run(a: &Models) -> anyhow::Result<Outcome> {
    match a {
        Models::Add(a) => add(a),
        Models::List { store } => {
            let folder = models_folder(store)?;
            let all = store::list(&folder)?;
            if all.is_empty() {
                println!("No network in {}; add one with `chestnut models add FILE --name NAME`.", folder.display());
            }
            let mut outcome = Outcome::Clean;
            for (name, record) in all {
                match record {
                    Ok(r) => println!(
                        "{name:<24} {:<20} {:>3} outputs  {}  {}",
                        r.architecture,
                        r.head.outputs(),
                        &r.weights_sha256[..r.weights_sha256.len().min(12)],
                        first_line(&r.licence)
                    ),
                    Err(e) => {
                        outcome = Outcome::SomeRefused;
                        println!("{name:<24} damaged: {e}");
                    }
                }
            }
            Ok(outcome)
        }
        Models::Show { name, store } => {
            let network = Network::find(&models_folder(store)?, name)?;
            show(&network.record)?;
            Ok(Outcome::Clean)
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

fn add(a: &ModelsAdd) -> anyhow::Result<Outcome> {
    let architecture: Option<Architecture> =
        a.arch.as_deref().map(str::parse).transpose().map_err(|e: String| anyhow!(e))?;
    let activations = a.activations.iter().map(|t| activation(t)).collect::<anyhow::Result<Vec<_>>>()?;
    let options = AddOptions {
        head: HeadHint {
            labels: (!a.labels.is_empty()).then(|| a.labels.clone()),
            activations: (!activations.is_empty()).then_some(activations),
        },
        standardisation: a.standardisation.clone(),
        input_size: a.input_size,
        licence: a.licence.clone(),
        half: false,
        replace: a.replace,
    };
    let folder = models_folder(&a.store)?;
    let record = store::add(&folder, &a.file, &a.name, architecture, &options)?;
    println!("Added {} to {}.", record.name, folder.display());
    show(&record)?;
    Ok(Outcome::Clean)
}

fn activation(text: &str) -> anyhow::Result<Activation> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "linear" => Activation::Linear,
        "relu" => Activation::Relu,
        "sigmoid" => Activation::Sigmoid,
        "softmax" => Activation::Softmax,
        _ => anyhow::bail!("unknown activation {text}; known are linear, relu, sigmoid and softmax"),
    })
}

fn show(r: &ModelRecord) -> anyhow::Result<()> {
    let graph = r.graph().map_err(|e| anyhow!("{}: {e}", r.name))?;
    let parameters: usize = graph.tensors().iter().map(|(_, s)| s.iter().product::<usize>()).sum();
    let gmac = graph.multiply_adds(r.input_size, r.input_size)? as f64 / 1e9;
    println!(
        "  architecture     {} ({} layers with weights, {:.1} M parameters)",
        r.architecture,
        graph
            .nodes
            .iter()
            .filter(|n| matches!(
                n.op,
                chestnut_zoo::Op::Conv { .. } | chestnut_zoo::Op::Depthwise { .. } | chestnut_zoo::Op::Dense { .. }
            ))
            .count(),
        parameters as f64 / 1e6
    );
    println!("  embedding        {}", graph.embedding_width());
    let head: Vec<String> = r.head.layers.iter().map(|l| format!("Dense({}, {:?})", l.units, l.activation)).collect();
    println!("  head             {}", if head.is_empty() { "none".to_owned() } else { head.join(", ") });
    if !r.head.layers.is_empty() {
        println!("  outputs          {}", r.head.output_names().join(", "));
    }
    println!("  input            {0} x {0}, {1} channels, {2}", r.input_size, r.channels, r.standardisation);
    println!("  work             {gmac:.2} GMAC per image");
    println!("  weights sha256   {}", r.weights_sha256);
    if !r.source_file.is_empty() {
        println!("  source           {} ({}), sha256 {}", r.source_file, r.source_format, r.source_sha256);
    }
    println!("  licence          {}", first_line(&r.licence));
    for note in &r.notes {
        println!("  note             {note}");
    }
    Ok(())
}
