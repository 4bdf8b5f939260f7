//! `chestnut models`

use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use anyhow::{Context, anyhow, bail};
use chestnut::embed::Network;
use chestnut::fs::write_atomic;
use chestnut_zoo::read::HeadHint;
use chestnut_zoo::read::safetensors::{keras_named, write_safetensors};
use chestnut_zoo::store::{self, AddOptions, ModelRecord};
use chestnut_zoo::{Activation, Architecture, onnx};
use chestnut_zoo::{layers, shipped};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Add, list, show and export networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Models {
    Add(ModelsAdd),
    /// List the networks in the store.
    List {
        #[command(flatten)]
        store: Store,
    },
    /// Show everything that is known about a network (or `seeded:<architecture>`).
    Show {
        /// Name.
        name: String,
        /// Every layer instead of one line per resolution.
        #[arg(long)]
        layers: bool,
        #[command(flatten)]
        store: Store,
    },
    Export(ModelsExport),
}

/// Write a network for other software: as ONNX, or as safetensors with Keras's names.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut models export xception --onnx xception.onnx
  chestnut models export xception --safetensors xception.safetensors --half

The ONNX file takes images [n, channels, rows, columns], standardised as `chestnut models show`
says, and gives feature map, embedding and, with a head, its outputs.")]
pub(crate) struct ModelsExport {
    /// Name in the store, or `seeded:<architecture>`.
    pub(crate) name: String,
    /// ONNX file to write.
    #[arg(long, value_name = "FILE", required_unless_present = "safetensors")]
    pub(crate) onnx: Option<PathBuf>,
    /// Safetensors file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) safetensors: Option<PathBuf>,
    /// Rows and columns of the ONNX file's input [default: the network's].
    #[arg(long, requires = "onnx")]
    pub(crate) input_size: Option<usize>,
    /// Round the safetensors file's kernels to F16: half the size.
    #[arg(long, requires = "safetensors")]
    pub(crate) half: bool,
    /// Replace files of that name.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

/// Check a weights file against its network, convert it and record where it came from.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  chestnut models add DenseNet121_model.hdf5 --name densenet121 --licence 'CC BY 4.0'
  chestnut models add xception.keras --name xception --labels NORMAL,PNEUMONIA")]
pub(crate) struct ModelsAdd {
    /// Keras .hdf5, .h5 or .keras, safetensors, or a PyTorch state dict or saved model, of which nothing is executed.
    pub(crate) file: PathBuf,
    /// Name in the store.
    #[arg(long)]
    pub(crate) name: String,
    /// densenet121, densenet169, densenet201, inception_resnet_v2, xception, vgg16 or vgg19; found by itself if not given.
    #[arg(long)]
    pub(crate) arch: Option<String>,
    /// Licence of the weights, as text.
    #[arg(long)]
    pub(crate) licence: Option<String>,
    /// Names of the head's outputs.
    #[arg(long, value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// Activation of each Dense layer (linear, relu, sigmoid, softmax), where the file does not say.
    #[arg(long, value_delimiter = ',')]
    pub(crate) activations: Vec<String>,
    /// imagenet (as the paper), keras-tf, keras-caffe, torchxrayvision or none.
    #[arg(long)]
    pub(crate) standardisation: Option<String>,
    /// Rows and columns of the input.
    #[arg(long)]
    pub(crate) input_size: Option<usize>,
    /// Replace a network of that name.
    #[arg(long)]
    pub(crate) replace: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

pub(crate) fn run(a: &Models) -> anyhow::Result<Outcome> {
    match a {
        Models::Add(a) => add(a),
        Models::List { store } => {
            let folder = models_folder(store)?;
            let all = store::list(&folder)?;
            if all.len() == 1 && all[0].0 == shipped::NAME {
                let folder = folder.display();
                say!(
                    "None in {folder} but the one that ships; add others with `chestnut models add FILE --name NAME`."
                );
            }
            let mut outcome = Outcome::Clean;
            for (name, record) in all {
                match record {
                    Ok(r) => say!(
                        "{name:<24} {:<20} {:>3} outputs  {}  {}",
                        r.architecture,
                        r.head.outputs(),
                        r.short_hash(),
                        first_line(&r.licence)
                    ),
                    Err(e) => {
                        outcome = Outcome::SomeRefused;
                        say!("{name:<24} damaged: {e}");
                    }
                }
            }
            Ok(outcome)
        }
        Models::Show { name, layers, store } => {
            let network = Network::find(&models_folder(store)?, name)?;
            show(&network.record)?;
            if *layers {
                show_layers(&network.record)?
            } else {
                show_stages(&network.record)?
            }
            Ok(Outcome::Clean)
        }
        Models::Export(a) => export(a),
    }
}

fn export(a: &ModelsExport) -> anyhow::Result<Outcome> {
    let models = models_folder(&a.store)?;
    let network = Network::find(&models, &a.name)?;
    for file in [&a.onnx, &a.safetensors].into_iter().flatten() {
        if file.exists() && !a.replace {
            bail!("{} is already there; choose another name or give --replace", file.display());
        }
    }
    let input_size = a.input_size.unwrap_or(network.record.input_size);
    let record = ModelRecord { input_size, ..network.record.clone() };
    record.graph().map_err(|e| anyhow!("{}: {e}", a.name))?;
    let (graph, weights) = network.load(&models)?;
    let mut properties = store::metadata(&record);
    properties.insert("chestnut.weights_sha256".to_owned(), record.weights_sha256.clone());
    properties.insert("chestnut.licence".to_owned(), record.licence.clone());
    if let Some(file) = &a.onnx {
        let listed: Vec<(String, String)> = properties.clone().into_iter().collect();
        let bytes = onnx::network(&graph, &weights, [input_size; 2], &listed)?;
        write_atomic(file, &bytes)?;
        say!("Wrote {} ({:.1} MB).", file.display(), bytes.len() as f64 / 1e6);
    }
    if let Some(file) = &a.safetensors {
        let cannot = || format!("cannot write {}", file.display());
        write_safetensors(file, &keras_named(weights), &properties, a.half).with_context(cannot)?;
        say!("Wrote {}.", file.display());
    }
    Ok(Outcome::Clean)
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
        notes: Vec::new(),
    };
    let folder = models_folder(&a.store)?;
    let record = store::add(&folder, &a.file, &a.name, architecture, &options)?;
    say!("Added {} to {}.", record.name, folder.display());
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
    say!(
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
    say!("  embedding        {}", graph.embedding_width());
    let head: Vec<String> = r.head.layers.iter().map(|l| format!("Dense({}, {:?})", l.units, l.activation)).collect();
    say!("  head             {}", if head.is_empty() { "none".to_owned() } else { head.join(", ") });
    if !r.head.layers.is_empty() {
        say!("  outputs          {}", r.head.output_names().join(", "));
    }
    if !r.conditional.is_empty() {
        let pairs: Vec<String> = r.conditional.iter().map(|(child, parent)| format!("{child} (of {parent})")).collect();
        say!("  conditional      {}; embed multiplies along the path", pairs.join(", "));
    }
    say!("  input            {0} x {0}, {1} channels, {2}", r.input_size, r.channels, r.standardisation);
    say!("  work             {gmac:.2} GMAC per image");
    say!("  weights sha256   {}", r.weights_sha256);
    if !r.source_file.is_empty() {
        say!("  source           {} ({}), sha256 {}", r.source_file, r.source_format, r.source_sha256);
    }
    say!("  licence          {}", first_line(&r.licence));
    if !r.taught_on.is_empty() {
        say!("  taught on        {} films of a study; no study that holds one of them takes it", r.taught_on.len());
    }
    for note in &r.notes {
        say!("  note             {note}");
    }
    Ok(())
}

fn show_stages(r: &ModelRecord) -> anyhow::Result<()> {
    let graph = r.graph().map_err(|e| anyhow!("{}: {e}", r.name))?;
    say!("\n  {:<11} {:>8} {:>7} {:>11} {:>7}  from to", "map", "channels", "layers", "parameters", "GMAC");
    for s in layers::stages(&layers::layers(&graph, r.input_size, r.input_size)?) {
        let map = format!("{} x {}", s.height, s.width);
        let gmac = s.multiply_adds as f64 / 1e9;
        let (channels, count, parameters) = (s.channels, s.layers, s.parameters);
        say!("  {map:<11} {channels:>8} {count:>7} {parameters:>11} {gmac:>7.3}  {} {}", s.first, s.last);
    }
    say!("\nEvery layer: chestnut models show {} --layers", r.name);
    Ok(())
}

fn show_layers(r: &ModelRecord) -> anyhow::Result<()> {
    let graph = r.graph().map_err(|e| anyhow!("{}: {e}", r.name))?;
    say!("\n  {:<32} {:<22} {:>16} {:>11} {:>8}", "layer", "what", "output", "parameters", "MMAC");
    for l in layers::layers(&graph, r.input_size, r.input_size)? {
        let output = format!("{} x {} x {}", l.output.height, l.output.width, l.output.channels);
        let mmac = l.multiply_adds as f64 / 1e6;
        say!("  {:<32} {:<22} {output:>16} {:>11} {mmac:>8.2}", l.name, l.kind, l.parameters);
    }
    Ok(())
}
