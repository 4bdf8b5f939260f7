//! `chestnut bench`

use super::embed::PrecisionArg;
use super::models_folder;
use crate::Outcome;
use crate::args::Store;
use crate::output;
use anyhow::{anyhow, bail};
use chestnut::embed::{Network, SEEDED, SEEDED_HEAD};
use chestnut_nn::{Engine, Isa, Options, Precision, StepTime};
use chestnut_zoo::weights::unit_sequence;
use chestnut_zoo::{Architecture, Head, HeadLayer, store, weights};
use clap::Args;
use serde_json::json;
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
    /// Rows and columns of the input.
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
    /// Time of each layer.
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
        if let Some(mut exact) = exact
            && !a.json
        {
            let apart = difference(&mut exact, &mut engine, a.size)?;
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
            if !a.json {
                say!(
                    "{name:<30} {batch:>5} {ms:>10.2} {:>10.1} {rate:>10.0} {:>7.0}% {:>10.0}",
                    1e3 / ms,
                    100.0 * rate / peak,
                    peak_memory_mb()
                );
            }
            runs.push(
                json!({"network": name, "precision": options.precision.to_string(), "batch": batch, "size": a.size, "threads": options.threads, "times_ms": times}),
            );
            if a.layers {
                layers(&mut engine, &images, a.size, batch)?;
            }
        }
    }
    if a.json {
        say!(
            "{}",
            json!({"isa": options.isa.to_string(), "available": Isa::available().iter().map(ToString::to_string).collect::<Vec<_>>(), "peak_gflops": peak, "runs": runs})
        );
    } else {
        say!("\nGFLOP/s count the network's own multiply-adds; Winograd does fewer, so it can pass 100 % of the peak.");
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

/// Fastest of several passes for each layer, and a sum for each kind of layer.
fn layers(engine: &mut Engine, images: &[f32], size: usize, batch: usize) -> anyhow::Result<()> {
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
    let line = |name: &str, kind: &str, time: Duration, macs: u64| {
        let ms = time.as_secs_f64() * 1e3;
        say!("    {name:<32} {kind:<18} {ms:>9.3} ms {:>8.0} GFLOP/s", 2e-6 * (macs * batch as u64) as f64 / ms);
    };
    let mut kinds: BTreeMap<&str, (Duration, u64)> = BTreeMap::new();
    for step in &best {
        line(&step.name, step.kind, step.time, step.multiply_adds);
        let sum = kinds.entry(step.kind).or_default();
        *sum = (sum.0 + step.time, sum.1 + step.multiply_adds);
    }
    for (kind, (time, macs)) in kinds {
        line("all", kind, time, macs);
    }
    Ok(())
}

/// Largest resident size of this process so far, where the system says.
fn peak_memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()).map_or(f64::NAN, |kb| kb / 1024.0)
}
