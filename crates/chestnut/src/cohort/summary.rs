//! The cohort in a few lines for people.
//!
//! How many images of how many patients, what was refused and why, how many positives each label
//! has, and every warning in full: what Table 2 of the paper says, and what it does not.
//! The text holds no patient id; whether it is shown, and where, is the caller's to decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::{Cohort, Label, Stage};

/// Examples of each kind of refusal.
const EXAMPLES: usize = 10;
/// Below this many positive patients an AUC's interval is too wide to tell methods apart.
const FEW_PATIENTS: usize = 10;

/// The summary of a cohort, lines ending in `\n`.
#[must_use]
pub fn summary(cohort: &Cohort) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_summary(cohort, &mut text);
    text
}

fn write_summary(cohort: &Cohort, out: &mut String) -> std::fmt::Result {
    let images = cohort.images.len();
    writeln!(out, "{images} images of {} patients", cohort.patients())?;
    if images == 0 {
        writeln!(out, "Nothing is left to work with: see the reasons below.")?;
    }
    write_counts(out, "Views", cohort.images.iter().map(|i| i.view.as_deref().unwrap_or("unknown")))?;
    write_counts(out, "Formats", cohort.images.iter().map(|i| i.format.as_str()))?;
    write_labels(cohort, out)?;
    write_rejects(cohort, out)?;
    if !cohort.warnings.is_empty() {
        writeln!(out, "\nPlease note")?;
        for warning in &cohort.warnings {
            writeln!(out, "  - {warning}")?;
        }
    }
    Ok(())
}

fn write_counts<'a>(out: &mut String, title: &str, values: impl Iterator<Item = &'a str>) -> std::fmt::Result {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = counts.iter().map(|(value, count)| format!("{value} {count}")).collect();
    writeln!(out, "{title}: {}", list.join(", "))
}

fn write_labels(cohort: &Cohort, out: &mut String) -> std::fmt::Result {
    let longest = cohort.label_names.iter().map(|l| l.chars().count()).max().unwrap_or(0).max(5);
    writeln!(
        out,
        "\n{:longest$}  {:>16}  {:>9}  {:>16}  {:>16}",
        "Label", "positive", "patients", "negative", "unknown"
    )?;
    let mut few = Vec::new();
    for (index, label) in cohort.label_names.iter().enumerate() {
        let (positives, negatives, unknown) = cohort.label_counts(index);
        let share = |count: usize| {
            let percent = 100.0 * count as f64 / cohort.images.len().max(1) as f64;
            format!("{count} ({percent:.1} %)")
        };
        let positive = cohort.images.iter().filter(|i| i.labels[index] == Label::Positive);
        let patients = positive.map(|i| i.patient.as_str()).collect::<BTreeSet<_>>().len();
        if positives > 0 && patients < FEW_PATIENTS {
            few.push(label.as_str());
        }
        writeln!(
            out,
            "{label:longest$}  {:>16}  {patients:>9}  {:>16}  {:>16}",
            share(positives),
            share(negatives),
            share(unknown)
        )?;
    }
    if !few.is_empty() {
        writeln!(
            out,
            "Fewer than {FEW_PATIENTS} patients are positive for {}: expect wide intervals there.",
            few.join(", ")
        )?;
    }
    Ok(())
}

fn write_rejects(cohort: &Cohort, out: &mut String) -> std::fmt::Result {
    if cohort.rejects.is_empty() {
        return writeln!(out, "\nNothing was refused");
    }
    writeln!(out, "\n{} items were refused; rejects.csv names them all", cohort.rejects.len())?;
    for stage in Stage::ALL {
        let what = match stage {
            Stage::Row => "rows of the labels table",
            Stage::Labels => "files without a usable row",
            Stage::Read => "files that cannot be read as an image",
            Stage::View => "files with an unwanted view or body part",
            Stage::Duplicate => "second copies of a picture",
        };
        let refused: Vec<_> = cohort.rejects.iter().filter(|r| r.stage == stage).collect();
        if refused.is_empty() {
            continue;
        }
        writeln!(out, "  {} {what}", refused.len())?;
        for reject in refused.iter().take(EXAMPLES) {
            let item = if reject.item.is_empty() { "(no name)" } else { &reject.item };
            writeln!(out, "      {item}: {}", reject.reason)?;
        }
        if refused.len() > EXAMPLES {
            writeln!(out, "      and {} more in rejects.csv", refused.len() - EXAMPLES)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Reject;
    use super::super::tests::image;
    use super::*;

    #[test]
    fn says_what_is_used_what_is_refused_and_what_to_mind() {
        let mut cohort = Cohort {
            label_names: vec!["Pleura".to_owned(), "PNX".to_owned()],
            images: vec![image("a", "SECRET", "+-"), image("b", "SECRET", "+?"), image("c", "2", "--")],
            warnings: vec!["three links".to_owned()],
            ..Cohort::default()
        };
        for i in 0..12 {
            let reason = format!("reason {i}");
            cohort.rejects.push(Reject { item: format!("x{i}"), row: None, stage: Stage::Read, reason });
        }
        let text = summary(&cohort);
        let pleura = text.lines().find(|l| l.starts_with("Pleura")).expect("a line for the label");
        let words: Vec<&str> = pleura.split_whitespace().collect();
        assert_eq!(words, ["Pleura", "2", "(66.7", "%)", "1", "1", "(33.3", "%)", "0", "(0.0", "%)"]);
        for part in [
            "3 images of 2 patients",
            "12 items were refused",
            "12 files that cannot be read",
            "x0: reason 0",
            "and 2 more",
            "- three links",
            "positive for Pleura:",
            "Views: unknown 3",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(!text.contains("SECRET"));
    }

    #[test]
    fn an_empty_cohort_says_so() {
        let text = summary(&Cohort::default());
        assert!(text.contains("0 images of 0 patients") && text.contains("Nothing is left"), "{text}");
    }
}
