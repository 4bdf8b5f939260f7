//! Quick timing.
#![allow(missing_docs, clippy::print_stdout)]
use chestnut_nn::*;
use chestnut_zoo::{Architecture, Head, weights};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let layers = args.get(3).is_some();
    for a in Architecture::ALL {
        if args.get(1).is_some_and(|n| n != "all" && n != a.name()) { continue; }
        let batches: Vec<usize> = args.get(2).map_or(vec![1, 8], |b| vec![b.parse().unwrap()]);
        let graph = a.graph(&Head::chexpert());
        let macs = graph.multiply_adds(224, 224).unwrap();
        let t = Instant::now();
        let w = weights::seeded(&graph, 0);
        let t1 = t.elapsed();
        let mut e = Engine::new(graph, w, Options::default()).unwrap();
        println!("{a}: seeded {t1:?} compile {:?}", t.elapsed() - t1);
        for b in batches {
            let x: Vec<f32> = weights::unit_sequence("input", 0).take(b * 224 * 224 * 3).collect();
            e.run(&x, 224, 224, true).unwrap();
            let mut times = vec![];
            let start = Instant::now();
            while times.len() < 5 || start.elapsed().as_secs_f64() < 3.0 {
                let t = Instant::now();
                e.run(&x, 224, 224, true).unwrap();
                times.push(t.elapsed().as_secs_f64());
            }
            times.sort_by(f64::total_cmp);
            let m = times[times.len() / 2];
            println!("  b{b}: {:.2} img/s  {:.1} GF/s min {:.2} img/s, mem {} MB", b as f64 / m, 2e-9 * (macs * b as u64) as f64 / m, b as f64 / times[0], e.working_bytes() >> 20);
            if layers {
                let mut best: Vec<StepTime> = vec![];
                for _ in 0..7 {
                    let mut v = vec![];
                    e.run_timed(&x, 224, 224, true, Some(&mut v)).unwrap();
                    if best.is_empty() { best = v } else { for (b, n) in best.iter_mut().zip(v) { if n.time < b.time { *b = n } } }
                }
                let mut kinds: std::collections::BTreeMap<&str, (f64, u64)> = Default::default();
                for s in &best {
                    let ms = s.time.as_secs_f64() * 1e3;
                    let k = kinds.entry(s.kind).or_default();
                    k.0 += ms;
                    k.1 += s.multiply_adds * b as u64;
                    if args[3] == "all" { println!("    {:<28} {:<18} {:8.3} ms {:7.1} GF/s", s.name, s.kind, ms, 2e-6 * (s.multiply_adds * b as u64) as f64 / ms); }
                }
                for (k, v) in kinds { println!("    {k:<20} {:8.3} ms {:7.1} GF/s", v.0, 2e-6 * v.1 as f64 / v.0); }
            }
        }
    }
}
