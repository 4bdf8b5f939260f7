//! `chestnut bench`

use super::embed::PrecisionArg;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::output;
use anyhow::{anyhow, bail};
use chestnut::embed::{Network, SEEDED, SEEDED_HEAD};
use chestnut_nn::{Engine, Isa, Options, Precision, StepTime};
use chestnut_zoo::store::INPUT_SIZES;
use chestnut_zoo::weights::unit_sequence;
use chestnut_zoo::{Architecture, Head, HeadLayer, store, weights};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Measure how fast this machine runs each network.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  chestnut bench --net seeded:densenet121 --layers")]
pub(crate) struct Bench {
    /// Networks by name [default: all seven, seeded].
    #[arg(long, value_delimiter = ',')]
    pub(crate) net: Vec<String>,
    /// Images per pass.
    #[arg(long, value_delimiter = ',', default_value = "1,8")]
    pub(crate) batch: Vec<usize>,
    /// Rows and columns of the input, 32 to 2048.
    #[arg(long, default_value_t = 224)]
    pub(crate) size: usize,
    /// Seconds to measure each network and batch.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// Threads [default: all cores].
    #[arg(long)]
    pub(crate) threads: Option<usize>,
    /// Precision of the products; with bf16, how far embeddings are from those in f32 is said, too.
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: PrecisionArg,
    /// Time of each layer, the fastest of 7 passes.
    #[arg(long)]
    pub(crate) layers: bool,
    /// Print all times as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

pub(crate) fn run(a: &Bench) -> anyhow::Result<Outcome> {
    if a.batch.is_empty() || a.batch.contains(&0) || a.batch.iter().any(|&b| b > 1024) {
        bail!("--batch must be 1 to 1024");
    }
    if !INPUT_SIZES.contains(&a.size) {
        bail!("--size must be {} to {}", INPUT_SIZES.start(), INPUT_SIZES.end());
    }
    let threads = a.threads.unwrap_or(Options::default().threads).clamp(1, 1024);
    let options = Options { threads, precision: a.precision.into(), ..Options::default() };
    let names = if a.net.is_empty() {
        Architecture::ALL.iter().map(|n| format!("{SEEDED}{n}")).collect()
    } else {
        a.net.clone()
    };
    let peak = chestnut_nn::measure_peak(options.isa, options.threads);
    if !a.json {
        say!(
            "{} threads, {}, {}, peak of this machine {peak:.0} GFLOP/s in f32 (measured), {} x {} pixels\n",
            options.threads,
            options.isa,
            options.precision,
            a.size,
            a.size
        );
        say!(
            "{:<30} {:>5} {:>10} {:>10} {:>10} {:>8} {:>10}",
            "network",
            "batch",
            "ms/image",
            "images/s",
            "GFLOP/s",
            "of peak",
            "memory MB"
        );
    }
    let mut runs = Vec::new();
    for name in &names {
        if output::is_lost() {
            break;
        }
        let (graph, weights) = load(a, name)?;
        let gmac = graph.multiply_adds(a.size, a.size)? as f64 / 1e9;
        let channels = graph.input_channels();
        let exact = match options.precision {
            Precision::F32 => None,
            Precision::Bf16 => {
                let options = Options { precision: Precision::F32, ..options };
                Some(Engine::new(graph.clone(), weights.clone(), options)?)
            }
        };
        let mut engine = Engine::new(graph, weights, options)?;
        let apart = exact.map(|mut exact| difference(&mut exact, &mut engine, a.size)).transpose()?;
        if let Some(apart) = apart
            && !a.json
        {
            say!("{name:<30} embeddings {apart:.1e} from those in f32 (relative length of the difference)");
        }
        for &batch in &a.batch {
            let images: Vec<f32> =
                unit_sequence("input", 0).take(batch * a.size * a.size * channels).map(|u| 2.0 * u - 1.0).collect();
            engine.run(&images, a.size, a.size, false)?;
            let mut times = Vec::new();
            let start = Instant::now();
            while times.len() < 3 || start.elapsed().as_secs_f64() < a.seconds {
                let t = Instant::now();
                engine.run(&images, a.size, a.size, false)?;
                times.push(t.elapsed().as_secs_f64() * 1e3);
            }
            let mut sorted = times.clone();
            sorted.sort_by(f64::total_cmp);
            let ms = sorted[sorted.len() / 2] / batch as f64;
            let rate = 2.0 * gmac / ms * 1e3;
            let steps = if a.layers { Some(layers(&mut engine, &images, a.size)?) } else { None };
            if a.json {
                let mut run = json!({
                    "network": name, "precision": options.precision.to_string(), "batch": batch, "size": a.size,
                    "threads": options.threads, "times_ms": times, "weight_bytes": engine.weight_bytes(),
                    "working_bytes": engine.working_bytes(),
                });
                if let Some(apart) = apart {
                    run["embeddings_apart"] = json!(apart);
                }
                if let Some(steps) = steps {
                    run["layers"] = steps.iter().map(layer_json).collect();
                }
                runs.push(run);
                continue;
            }
            say!(
                "{name:<30} {batch:>5} {ms:>10.2} {:>10.1} {rate:>10.0} {:>7.0}% {:>10.0}",
                1e3 / ms,
                100.0 * rate / peak,
                (engine.weight_bytes() + engine.working_bytes()) as f64 / 1e6
            );
            if let Some(steps) = steps {
                say_layers(&steps, batch);
            }
        }
    }
    if a.json {
        let available: Vec<String> = Isa::available().iter().map(ToString::to_string).collect();
        let all = json!({"isa": options.isa.to_string(), "available": available, "peak_gflops": peak, "runs": runs});
        say!("{all}");
    } else {
        say!("\nGFLOP/s count the network's own multiply-adds; Winograd does fewer, so it can pass 100 % of the peak.");
        say!("Memory is what the engine holds: packed weights and working memory for the largest batch so far.");
    }
    Ok(Outcome::Clean)
}

fn load(a: &Bench, name: &str) -> anyhow::Result<(chestnut_zoo::Graph, chestnut_zoo::Weights)> {
    if let Some(architecture) = name.strip_prefix(SEEDED) {
        let architecture = architecture.strip_suffix(SEEDED_HEAD).unwrap_or(architecture);
        let architecture: Architecture = architecture.parse().map_err(|e: String| anyhow!(e))?;
        let head = Head {
            layers: vec![HeadLayer { units: 14, activation: chestnut_zoo::Activation::Sigmoid }],
            labels: vec![],
        };
        let graph = architecture.graph(&head);
        let weights = weights::seeded(&graph, 0);
        return Ok((graph, weights));
    }
    let folder = models_folder(&a.store)?;
    Network::find(&folder, name)?;
    let (_, graph, weights) = store::load(&folder, name)?;
    Ok((graph, weights))
}

/// Length of the difference between two engines' embeddings of an image of noise, relative to that of the embedding.
fn difference(exact: &mut Engine, other: &mut Engine, size: usize) -> anyhow::Result<f64> {
    let values = size * size * exact.graph().input_channels();
    let image: Vec<f32> = unit_sequence("input", 0).take(values).map(|u| 2.0 * u - 1.0).collect();
    let a = exact.run(&image, size, size, false)?.embeddings;
    let b = other.run(&image, size, size, false)?.embeddings;
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let apart = length(&mut a.iter().zip(&b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    Ok(apart / length(&mut a.iter().map(|&v| f64::from(v))))
}

/// Fastest of several passes for each layer.
fn layers(engine: &mut Engine, images: &[f32], size: usize) -> anyhow::Result<Vec<StepTime>> {
    let mut best: Vec<StepTime> = Vec::new();
    for _ in 0..7 {
        let mut times = Vec::new();
        engine.run_timed(images, size, size, false, Some(&mut times))?;
        if best.is_empty() {
            best = times;
        } else {
            best.iter_mut().zip(times).for_each(|(b, t)| b.time = b.time.min(t.time));
        }
    }
    Ok(best)
}

fn layer_json(step: &StepTime) -> Value {
    let ms = step.time.as_secs_f64() * 1e3;
    json!({"name": step.name, "kind": step.kind, "multiply_adds": step.multiply_adds, "ms": ms})
}

/// A line for each layer, and one for each kind of layer.
fn say_layers(steps: &[StepTime], batch: usize) {
    let line = |name: &str, kind: &str, time: Duration, macs: u64| {
        let ms = time.as_secs_f64() * 1e3;
        say!("    {name:<32} {kind:<18} {ms:>9.3} ms {:>8.0} GFLOP/s", 2e-6 * (macs * batch as u64) as f64 / ms);
    };
    let mut kinds: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    for step in steps {
        line(&step.name, step.kind, step.time, step.multiply_adds);
        let sum = kinds.entry(step.kind).or_default();
        *sum = (sum.0 + step.time, sum.1 + step.multiply_adds);
    }
    for (kind, (time, macs)) in kinds {
        line("all", kind, time, macs);
    }
}
