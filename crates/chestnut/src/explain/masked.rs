//! The shortcut check on a study: the models are asked again with parts of every image hidden.
//!
//! The models stay as they were fitted, on whole images; only what they get to see changes ([`Masking::suite`]). Costs
//! seven passes of every image through every network. The views are made on the recipe's square, before
//! standardisation, and the AUC is that of the probabilities averaged over the networks, as everywhere.

use super::models::add_share;
use super::shortcut::{MaskedAuc, Masking, Warning, verdict};
use super::stage::BATCH;
use super::{Models, Refusals, SOURCES};
use crate::cohort::table::to_csv;
use crate::error::Result;
use crate::evaluate::{LabelScore, score_label};
use crate::image::Radiograph;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What is visible when nothing is hidden.
pub const WHOLE: &str = "whole image";

/// How well one model tells one label from one view.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedScore {
    /// The model, one of [`SOURCES`].
    pub source: &'static str,
    /// What was visible.
    pub view: String,
    /// Label, AUC with its interval, or the reason why there is none.
    pub score: LabelScore,
    /// What people should be told.
    pub warning: Option<Warning>,
}

/// Outcome of the check.
#[derive(Clone, Debug, Default)]
pub struct Shortcuts {
    /// By model, label and view, the whole image first.
    pub scores: Vec<MaskedScore>,
    /// Images that could not be read any more.
    pub refused: Refusals,
    /// One image in every view, for people to see what was hidden.
    pub example: Vec<(String, Radiograph)>,
}

impl Shortcuts {
    /// The warnings, each with the model that it is about, one for all labels of a model and view.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut said: Vec<(&str, &str, Warning)> = Vec::new();
        for score in &self.scores {
            let Some(warning) = &score.warning else { continue };
            match said.iter_mut().find(|(source, view, _)| (*source, *view) == (score.source, score.view.as_str())) {
                Some((_, _, earlier)) => earlier.labels += &format!(", {}", warning.labels),
                None => said.push((score.source, &score.view, warning.clone())),
            }
        }
        said.into_iter().map(|(source, _, warning)| format!("{source}: {warning}")).collect()
    }

    /// One line per model, label and view.
    #[must_use]
    pub fn csv(&self) -> String {
        let header = ["model", "label", "view", "images", "positives", "auc", "low", "high", "reason", "warning"];
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.4}"));
        let line = |s: &MaskedScore| {
            let score = &s.score;
            vec![
                s.source.to_owned(),
                score.label.clone(),
                s.view.clone(),
                (score.positives + score.negatives).to_string(),
                score.positives.to_string(),
                number(score.auc),
                number(score.interval.map(|i| i[0])),
                number(score.interval.map(|i| i[1])),
                score.reason.clone().unwrap_or_default(),
                s.warning.as_ref().map_or_else(String::new, Warning::to_string),
            ]
        };
        to_csv(std::iter::once(header.map(str::to_owned).to_vec()).chain(self.scores.iter().map(line)))
    }
}

/// Asks the models about every view of the images `rows`.
///
/// `progress` is called with (done, total) passes of an image through a network, all its views together.
///
/// # Errors
/// If a network cannot be loaded or run.
pub fn shortcuts(models: &Models<'_>, rows: &[usize], progress: &dyn Fn(usize, usize)) -> Result<Shortcuts> {
    let suite = Masking::suite(None);
    let views = 1 + suite.len();
    let (labels, networks) = (models.labels().len(), models.networks().len());
    let nothing = [vec![0.0; labels], vec![0.0; labels]];
    // [image][view], and in how many networks the image could be read.
    let mut sums = vec![vec![nothing; views]; rows.len()];
    let mut counts = vec![0; rows.len()];
    let mut refused = BTreeMap::new();
    let mut example = Vec::new();
    let (mut done, total) = (0, rows.len() * networks);
    progress(0, total);
    for number in 0..networks {
        let mut runner = models.runner(number)?;
        let size = runner.reader.size();
        for (batch, chunk) in rows.chunks(BATCH).enumerate() {
            let reader = &runner.reader;
            let read: Vec<_> = chunk.par_iter().map(|&row| reader.square(row)).collect();
            let (mut good, mut squares) = (Vec::new(), Vec::new());
            for (i, square) in read.into_iter().enumerate() {
                match square {
                    Ok(square) => {
                        good.push(batch * BATCH + i);
                        squares.extend(seen(square, size, &suite)?);
                    }
                    Err(reason) => {
                        refused.insert(models.cohort().images[chunk[i]].id.clone(), reason);
                    }
                }
            }
            if example.is_empty() && !squares.is_empty() {
                let names = std::iter::once(WHOLE.to_owned()).chain(suite.iter().map(Masking::describe));
                let pictures = squares.iter().take(views).cloned();
                let picture = |pixels| Radiograph { width: size, height: size, pixels, bits: 8 };
                example = names.zip(pictures.map(picture)).collect();
            }
            let answers = runner.answers(&squares)?;
            for (&image, answers) in good.iter().zip(answers.chunks(views)) {
                counts[image] += 1;
                for (sum, answer) in sums[image].iter_mut().zip(answers) {
                    add_share(sum, answer, 1.0 / networks as f64);
                }
            }
            done += chunk.len();
            progress(done, total);
        }
    }
    let images: Vec<usize> = (0..rows.len()).filter(|&i| counts[i] == networks).collect();
    let patients = models.cohort().patients_of(&images.iter().map(|&i| rows[i]).collect::<Vec<_>>());
    let mut scores = Vec::new();
    for (source, name) in SOURCES.into_iter().enumerate() {
        for (k, label) in models.labels().iter().enumerate() {
            let truth: Vec<Option<bool>> = images.iter().map(|&i| models.truth(rows[i], k)).collect();
            let of_view = |view: usize| -> LabelScore {
                let p: Vec<f64> = images.iter().map(|&i| sums[i][view][source][k]).collect();
                let score = score_label(label, &p, &truth, &patients);
                // What a learner says of a label of which it saw one class is no prediction.
                let Some(reason) = models.untrained(source, k) else { return score };
                LabelScore { auc: None, interval: None, reason: Some(reason.clone()), roc: Vec::new(), ..score }
            };
            let whole = of_view(0);
            let all = known(&whole);
            scores.push(MaskedScore { source: name, view: WHOLE.to_owned(), score: whole, warning: None });
            for (i, masking) in suite.iter().enumerate() {
                let score = of_view(1 + i);
                let both = all.zip(known(&score));
                let warning = both.and_then(|(whole, masked)| verdict(label, &whole, &masked, masking));
                scores.push(MaskedScore { source: name, view: masking.describe(), score, warning });
            }
        }
    }
    Ok(Shortcuts { scores, refused: refused.into_iter().collect(), example })
}

/// The whole square and each view of it.
fn seen(square: Vec<f32>, size: usize, suite: &[Masking]) -> Result<Vec<Vec<f32>>> {
    let mut views = Vec::with_capacity(1 + suite.len());
    for masking in suite {
        let mut view = square.clone();
        masking.apply(&mut view, size)?;
        views.push(view);
    }
    views.insert(0, square);
    Ok(views)
}

/// An AUC that has an interval, without which nothing can be said of it.
fn known(score: &LabelScore) -> Option<MaskedAuc> {
    Some(MaskedAuc { auc: score.auc?, interval: score.interval? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_views_reasons_and_warnings() {
        let truth = [Some(true), Some(true), Some(false), Some(false), None];
        let score = score_label("PNX", &[0.9, 0.8, 0.2, 0.1, 0.5], &truth, &["a", "b", "c", "d", "e"]);
        let none = score_label("Bone", &[0.9, 0.8], &[Some(true), None], &["a", "b"]);
        let warning = |label: &str| Warning {
            finding: "look".to_owned(),
            labels: format!("{label} 0.7"),
            meaning: "Twice.".to_owned(),
        };
        let row = |score: LabelScore, warned: bool| MaskedScore {
            warning: warned.then(|| warning(&score.label)),
            source: SOURCES[1],
            view: "only the four corners".to_owned(),
            score,
        };
        let more = LabelScore { label: "Lung".to_owned(), ..score.clone() };
        let scores = vec![row(score, true), row(none, false), row(more, true)];
        let found = Shortcuts { scores, ..Shortcuts::default() };
        assert_eq!(found.warnings(), ["forest: look: PNX 0.7, Lung 0.7. Twice."], "labels share a sentence");
        let csv = found.csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("model,label,view,images,positives,auc"), "{csv}");
        assert!(lines[1].starts_with("forest,PNX,only the four corners,4,2,1.0000,"), "{csv}");
        assert!(lines[1].ends_with("look: PNX 0.7. Twice."), "{csv}");
        assert!(lines[2].contains("Bone,only the four corners,1,1,,,,not estimable"), "{csv}");
    }

    #[test]
    fn the_whole_image_comes_first_and_views_hide_their_part() {
        let suite = Masking::suite(None);
        let square: Vec<f32> = (0..400).map(|i| i as f32 / 400.0).collect();
        let views = seen(square.clone(), 20, &suite).expect("a square");
        assert_eq!(views.len(), 7);
        assert_eq!(views[0], square);
        assert!(views[1..].iter().all(|v| v.len() == 400 && *v != square));
        assert!(seen(vec![0.0; 399], 20, &suite).is_err());
    }
}
