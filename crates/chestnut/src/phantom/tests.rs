//! Tests of whole phantoms: labels, masks, determinism, and that no label shows in corner or mean grey.

use super::*;
use rayon::prelude::*;

/// A cohort in which every finding is common, so that a small one tells something.
fn common(hospital: Hospital, images: usize, size: usize) -> PhantomConfig {
    PhantomConfig {
        images,
        hospital,
        size,
        seed: 11,
        prevalence: [0.2, 0.25, 0.3, 0.25, 0.25, 0.25, 0.25],
        ..PhantomConfig::default()
    }
}

fn render_all(config: &PhantomConfig) -> (Vec<PhantomCase>, Vec<Phantom>) {
    let cases = plan(config).expect("the configuration is valid");
    let phantoms = cases.par_iter().map(|case| render(config, case)).collect();
    (cases, phantoms)
}

/// Grey values 0 to 1, bright = dense.
fn grey(p: &Phantom) -> Vec<f64> {
    let max = f64::from((1_u32 << p.bits) - 1);
    p.pixels.iter().map(|&v| f64::from(v) / max).map(|v| if p.monochrome1 { 1.0 - v } else { v }).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    sum / n
}

/// Mean of a square patch of a tenth of the shorter side in one of four corners.
fn corner(p: &Phantom, right: bool, low: bool) -> f64 {
    let values = grey(p);
    let side = p.width.min(p.height) / 10;
    let x0 = if right { p.width - side } else { 0 };
    let y0 = if low { p.height - side } else { 0 };
    mean((y0..y0 + side).flat_map(|y| (x0..x0 + side).map(move |x| (x, y))).map(|(x, y)| values[y * p.width + x]))
}

/// AUC as the share of (positive, negative) pairs in the right order, ties half.
fn auc(values: &[f64], labels: &[bool]) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for (a, _) in values.iter().zip(labels).filter(|(_, l)| **l) {
        for (b, _) in values.iter().zip(labels).filter(|(_, l)| !**l) {
            wins += if a > b {
                1.0
            } else if a < b {
                0.0
            } else {
                0.5
            };
            pairs += 1.0;
        }
    }
    wins / pairs
}

#[test]
fn masks_belong_to_positive_findings_and_lie_in_the_image() {
    for hospital in [Hospital::A, Hospital::B] {
        let (cases, phantoms) = render_all(&common(hospital, 60, 96));
        for (case, p) in cases.iter().zip(&phantoms) {
            assert_eq!(p.pixels.len(), p.width * p.height);
            assert_eq!(p.width.max(p.height), 96);
            assert!(p.pixels.iter().all(|&v| u32::from(v) < 1 << p.bits));
            let mut expected: Vec<Finding> =
                Finding::ALL[1..].iter().copied().filter(|f| case.labels[f.index()]).collect();
            let mut found: Vec<Finding> = p.masks.iter().map(|m| m.0).collect();
            expected.sort_unstable();
            found.sort_unstable();
            assert_eq!(found, expected, "{}", case.image_id);
            for (finding, mask) in &p.masks {
                let on = mask.iter().filter(|&&m| m == 255).count();
                let off = mask.iter().filter(|&&m| m == 0).count();
                assert!(on > 0 && on < p.pixels.len() / 2, "{finding} of {}: {on} pixels", case.image_id);
                assert_eq!(on + off, p.pixels.len());
            }
        }
    }
}

#[test]
fn hospitals_store_differently() {
    let (_, a) = render_all(&common(Hospital::A, 40, 64));
    let (_, b) = render_all(&common(Hospital::B, 40, 64));
    assert!(a.iter().all(|p| p.bits == 12 && !p.monochrome1 && p.width <= p.height));
    assert!(b.iter().any(|p| p.bits == 10) && b.iter().any(|p| p.bits == 8));
    assert!(b.iter().any(|p| p.monochrome1) && b.iter().any(|p| !p.monochrome1));
    assert!(b.iter().any(|p| p.width > p.height));
}

#[test]
fn rendering_depends_on_nothing_but_its_arguments() {
    let config = common(Hospital::B, 12, 96);
    let (cases, together) = render_all(&config);
    for (case, p) in cases.iter().zip(&together).rev() {
        assert!(render(&config, case) == *p, "{}", case.image_id);
    }
    let other = PhantomConfig { seed: 12, ..config.clone() };
    assert!(render(&other, &cases[0]) != together[0]);
}

#[test]
fn neither_mean_grey_nor_a_corner_tells_a_finding() {
    for hospital in [Hospital::A, Hospital::B] {
        let (cases, phantoms) = render_all(&common(hospital, 240, 64));
        let mut clues: Vec<(String, Vec<f64>)> =
            vec![("mean grey".to_owned(), phantoms.iter().map(|p| mean(grey(p).into_iter())).collect())];
        for (right, low) in [(false, false), (true, false), (false, true), (true, true)] {
            let values = phantoms.iter().map(|p| corner(p, right, low)).collect();
            clues.push((format!("corner right {right} low {low}"), values));
        }
        for finding in Finding::ALL {
            let labels: Vec<bool> = cases.iter().map(|c| c.labels[finding.index()]).collect();
            for (name, values) in &clues {
                let auc = auc(values, &labels);
                assert!((0.3..=0.7).contains(&auc), "{hospital}: {name} tells {finding}, AUC {auc:.3}");
            }
        }
    }
}

#[test]
fn a_planted_shortcut_tells_its_label_and_nothing_else_changes() {
    let mut config = common(Hospital::A, 60, 64);
    let (cases, clean) = render_all(&config);
    config.shortcut = Some(Shortcut { finding: Finding::Pleura, fidelity: 1.0 });
    let (_, planted) = render_all(&config);
    for ((case, p), c) in cases.iter().zip(&planted).zip(&clean) {
        let [x0, y0, x1, y1] = Shortcut::region(p.width, p.height);
        let inside = |k: usize| (x0..x1).contains(&(k % p.width)) && (y0..y1).contains(&(k / p.width));
        let changed = (0..p.pixels.len()).filter(|&k| p.pixels[k] != c.pixels[k]).collect::<Vec<_>>();
        assert!(changed.iter().all(|&k| inside(k)));
        assert_eq!(!changed.is_empty(), case.labels[Finding::Pleura.index()], "{}", case.image_id);
    }
}

#[test]
fn films_of_one_patient_resemble_each_other() {
    // 32 x 32 samples of the central four fifths of the shorter side.
    let look = |p: &Phantom| -> Vec<f64> {
        let values = grey(p);
        let short = p.width.min(p.height) as f64 * 0.8 / 32.0;
        let mut out = Vec::new();
        for y in 0..32_i32 {
            for x in 0..32_i32 {
                let px = p.width as f64 / 2.0 + (f64::from(x) - 15.5) * short;
                let py = p.height as f64 / 2.0 + (f64::from(y) - 15.5) * short;
                out.push(values[py as usize * p.width + px as usize]);
            }
        }
        out
    };
    let correlation = |a: &[f64], b: &[f64]| {
        let (ma, mb) = (mean(a.iter().copied()), mean(b.iter().copied()));
        let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (x, y) in a.iter().zip(b) {
            ab += (x - ma) * (y - mb);
            aa += (x - ma) * (x - ma);
            bb += (y - mb) * (y - mb);
        }
        ab / f64::sqrt(aa * bb)
    };
    let config = PhantomConfig { prevalence: [0.0; 7], images: 320, size: 64, ..PhantomConfig::default() };
    let (cases, phantoms) = render_all(&config);
    let looks: Vec<Vec<f64>> = phantoms.iter().map(look).collect();
    let (mut same, mut other) = (Vec::new(), Vec::new());
    for i in 0..cases.len() {
        for j in i + 1..cases.len() {
            if cases[i].view == cases[j].view {
                let to = if cases[i].patient_id == cases[j].patient_id { &mut same } else { &mut other };
                to.push(correlation(&looks[i], &looks[j]));
            }
        }
    }
    assert!(same.len() > 20, "{} pairs", same.len());
    let (same, other) = (mean(same.into_iter()), mean(other.into_iter()));
    assert!(same > other, "within patients {same:.3}, between {other:.3}");
}

#[test]
fn names_and_settings_are_checked() {
    assert_eq!("PNX".parse::<Finding>(), Ok(Finding::Pneumothorax));
    assert!(matches!("Rib".parse::<Finding>(), Err(PhantomError::Finding(_))));
    assert_eq!("b".parse::<Hospital>(), Ok(Hospital::B));
    assert!(matches!("C".parse::<Hospital>(), Err(PhantomError::Hospital(_))));
    let shortcut = Some(Shortcut { finding: Finding::Bone, fidelity: 1.5 });
    let config = PhantomConfig { shortcut, ..PhantomConfig::default() };
    assert_eq!(config.check(), Err(PhantomError::Fidelity(1.5)));
    assert_eq!(PhantomConfig::default().check(), Ok(()));
}
