//! The main finding in one sentence, and what must be known before it is repeated.
//!
//! The finding is a row that stands for its approach and has an interval from resampling patients, so that nobody picks
//! the luckiest of fifty rows; only where no row has one is the highest mean taken without. Nothing is computed.

use super::words::{several, span};
use crate::evaluate::results::MethodDetail;
use crate::evaluate::table::{self, NOT_ESTIMABLE, decimal, few_labels, spread_of, test_part};
use crate::evaluate::{Comparison, FEW_POSITIVES, MethodScore};

/// What a run of the paper's own protocol does to the numbers.
pub(super) const AS_PUBLISHED: &str = "SPLIT AS PUBLISHED: the approaches were tested on different images, some of them on images \
     that were learned from, as in the paper. Rows of different tables must not be compared.";

/// The row that the page speaks of first.
#[derive(Clone, Copy)]
pub(super) struct Finding<'a> {
    pub(super) method: &'a MethodScore,
    pub(super) mean: f64,
    /// 95 % interval of the mean from resampling patients.
    pub(super) interval: Option<[f64; 2]>,
    /// How many rows it is the best of.
    pub(super) among: usize,
}

/// Thresholds, calibration and intervals of a row.
pub(super) fn detail_of<'a>(c: &'a Comparison, m: &MethodScore) -> Option<&'a MethodDetail> {
    c.details.iter().find(|d| d.approach == m.approach && d.source == m.source)
}

/// The row with the greatest mean AUC among those that stand for their approach.
pub(super) fn finding(c: &Comparison) -> Option<Finding<'_>> {
    let interval_of = |m: &MethodScore| detail_of(c, m).and_then(|d| d.mean_bootstrap);
    let held_out = |m: &MethodScore| m.tested_on.is_none();
    let any = |test: &dyn Fn(&MethodScore) -> bool| c.methods.iter().any(|m| m.mean_auc.is_some() && test(m));
    let (some_held_out, some_interval) = (any(&held_out), any(&|m| interval_of(m).is_some()));
    let ranked = |m: &MethodScore| (!some_held_out || held_out(m)) && (!some_interval || interval_of(m).is_some());
    // A mean over fewer labels is another quantity: only the rows that estimate most of them are ranked.
    let most = c.methods.iter().filter(|m| m.mean_auc.is_some() && ranked(m)).map(estimated).max().unwrap_or(0);
    let mut best: Option<Finding<'_>> = None;
    let mut among = 0;
    for method in &c.methods {
        let Some(mean) = method.mean_auc else { continue };
        if !ranked(method) || estimated(method) < most {
            continue;
        }
        let interval = interval_of(method);
        among += 1;
        if best.is_none_or(|b| mean > b.mean) {
            best = Some(Finding { method, mean, interval, among: 0 });
        }
    }
    best.map(|b| Finding { among, ..b })
}

/// Labels with an AUC in this row.
pub(super) fn estimated(m: &MethodScore) -> usize {
    m.labels.iter().filter(|l| l.auc.is_some()).count()
}

/// `40 test images of 30 patients`.
pub(super) fn tested(c: &Comparison) -> String {
    let (images, patients) = test_part(c).map_or((0, 0), |p| (p.images, p.patients));
    format!("{} of {}", several(images, "test image"), several(patients, "patient"))
}

/// Number, and the sentences beside it; the first is the finding.
pub(super) struct Headline {
    pub(super) number: String,
    pub(super) interval: String,
    pub(super) words: String,
    pub(super) meaning: String,
}

/// The answer.
pub(super) fn headline(c: &Comparison) -> Headline {
    let Some(f) = finding(c) else {
        return Headline {
            number: NOT_ESTIMABLE.to_owned(),
            interval: String::new(),
            words: format!("No AUC could be estimated on {}.", tested(c)),
            meaning: "The table below says why for each label.".to_owned(),
        };
    };
    let interval = match f.interval {
        Some([low, high]) => format!("95 % interval {} to {}", decimal(low), decimal(high)),
        None => "interval of the mean not worked out".to_owned(),
    };
    let best = if f.among > 1 { format!(", the best of {}", several(f.among, "row")) } else { String::new() };
    Headline {
        number: decimal(f.mean),
        interval: f.interval.map_or_else(String::new, span),
        words: format!(
            "{} ({}) reached a mean AUC of {} ({interval}) on {}{best}.",
            f.method.approach,
            f.method.source,
            decimal(f.mean),
            f.method.tested_on.clone().unwrap_or_else(|| tested(c)),
        ),
        meaning: format!(
            "The mean is over {}. Read it like this: shown one image with a finding and one without, this method ranks \
             them rightly in about {:.0} of 100 such pairs; 50 would be guessing.",
            several(estimated(f.method), "label"),
            f.mean * 100.0
        ),
    }
}

/// What must be known before the headline is repeated to anybody.
pub(super) fn caveats(c: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(f) = finding(c) else { return lines };
    let m = f.method;
    if f.interval.is_none() {
        let why = if c.details.is_empty() { ": this run left out the details (--quick)" } else { "" };
        lines.push(format!("The mean has no interval{why}. Each label's is in the tables."));
    }
    if f.among > 1 {
        lines.push(
            "It was picked for being the highest on the very images it is judged by, so it flatters a little. Look at \
             the differences before you call one approach better than another."
                .to_owned(),
        );
    }
    if let Some(mean) = m.mean_auc_without_few {
        lines.push(format!(
            "Without the labels that have fewer than {FEW_POSITIVES} positive test images its mean is {}.",
            decimal(mean)
        ));
    }
    let missing = m.labels.len() - estimated(m);
    if missing > 0 {
        lines.push(format!("{} of {} could not be estimated.", missing, several(m.labels.len(), "label")));
    }
    match (spread_of(m, None), table::repeats(c)) {
        (Some(r), Some(n)) => {
            let left_out = m.spread.as_ref().map_or(&[][..], |s| s.left_out.as_slice());
            let without =
                if left_out.is_empty() { String::new() } else { format!(", without {},", left_out.join(", ")) };
            lines.push(format!(
                "Over {n} random splits its mean AUC{without} was {} (standard deviation), from {} to {}.",
                table::mean_and_sd(&r, " \u{b1} "),
                decimal(r.min),
                decimal(r.max)
            ));
        }
        (None, Some(n)) if m.spread.is_some() => {
            lines
                .push(format!("No label could be estimated in all of the {n} splits, so they have no mean in common."));
        }
        _ => lines
            .push("It rests on one random split; repeat it (--repeats 20) to see how much splits differ.".to_owned()),
    }
    lines
}

/// What would make the numbers misleading, in a box that cannot be overlooked.
pub(super) fn banners(c: &Comparison) -> Vec<String> {
    untrained(c).into_iter().chain(marks(c)).collect()
}

/// The networks that nobody trained, if there are any.
pub(super) fn untrained(c: &Comparison) -> Option<String> {
    let seeded: Vec<&str> = c.networks.iter().filter(|n| is_seeded(&n.weights)).map(|n| n.name.as_str()).collect();
    let words = || {
        format!(
            "Not trained: {}. Weights of these networks come from a formula, so the AUCs show that the chain works and \
             say nothing about how good it can be.",
            seeded.join(", ")
        )
    };
    (!seeded.is_empty()).then(words)
}

/// What every table of results must carry.
pub(super) fn marks(c: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    if table::is_split_by_image(c) && !c.marks.iter().any(|m| m.starts_with(table::SPLIT_BY_IMAGE)) {
        lines.push(table::SPLIT_BY_IMAGE.to_owned());
    }
    if c.as_published {
        lines.push(AS_PUBLISHED.to_owned());
    }
    for mark in &c.marks {
        if !lines.contains(mark) {
            lines.push(mark.clone());
        }
    }
    lines
}

/// Whether weights come from a formula.
pub(super) fn is_seeded(weights: &str) -> bool {
    weights.starts_with("seeded")
}

/// What this study cannot say.
pub(super) fn limits(c: &Comparison) -> Vec<String> {
    let mut lines = vec![
        "For research only. This is not a medical device, and nothing in it may guide the care of a patient.".to_owned(),
        "One study's images, labels and machines. At another hospital, or on next year's images, numbers may be lower; \
         nothing here was tested there."
            .to_owned(),
        "An AUC says how well images are ranked. It is not a probability, it names no threshold, and it does not say how \
         many patients would be helped."
            .to_owned(),
        "Labels are taken as they were given. Errors in them, and findings that nobody looked for, count as truth.".to_owned(),
        "Predictive values and net benefit hold for this cohort's share of positives only.".to_owned(),
    ];
    let few = few_labels(c);
    if !few.is_empty() {
        lines.push(format!(
            "Few positive test images: {}. How far an AUC can be trusted depends on these, not on the number of images.",
            few.join(", ")
        ));
    }
    if test_part(c).is_some_and(|p| p.images > p.patients) {
        lines.push(
            "Several images of one patient are not independent: intervals and tests take patients as clusters \
             (Obuchowski 1997), and the interval of the mean resamples them."
                .to_owned(),
        );
    }
    if c.methods.len() > 1 {
        lines.push(
            "Intervals belong to one AUC each and are no test of the difference between two methods. The section on \
             differences has one, corrected over the labels but not over the pairs of approaches."
                .to_owned(),
        );
    }
    lines.extend(marks(c));
    lines
}
