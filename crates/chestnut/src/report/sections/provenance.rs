//! What made the numbers: recipe, networks and their hashes, settings, seed, version, wall times; and the limits.

use super::super::document::{Block, Cell, Section, Table, Tone};
use super::super::facts::StudyFacts;
use super::super::finding;
use super::super::words::duration;
use crate::evaluate::table::repeats;
use crate::evaluate::{Comparison, NetworkUsed};

/// Facts of a stage shown at full length.
const MAX_FACT: usize = 200;

/// Recipe and networks.
pub(super) fn networks(c: &Comparison) -> Section {
    let row = |n: &NetworkUsed| {
        let tone = if finding::is_seeded(&n.weights) { Tone::Bold } else { Tone::Normal };
        vec![
            Cell::new(&n.name),
            Cell::new(&n.architecture),
            Cell::new(format!("{} numbers", n.width)),
            Cell { tone, ..Cell::new(&n.weights) },
            Cell::new(if n.licence.is_empty() { "not recorded" } else { n.licence.as_str() }),
        ]
    };
    let head = ["Name", "Architecture", "Embedding", "Weights (SHA-256)", "Licence"];
    let blocks = vec![
        Block::Heading("What is done to every image".to_owned()),
        Block::List(c.recipe.clone()),
        Block::Notes(vec![format!(
            "Recipe {}. Each network adds the standardisation that its weights were trained with.",
            c.recipe_hash
        )]),
        Block::Heading("Networks".to_owned()),
        Block::Table(Table::new("Networks", "plain", &head, c.networks.iter().map(row).collect())),
    ];
    Section { id: "networks", title: "Recipe and networks".to_owned(), blocks }
}

/// Settings, seed, version and wall times.
pub(super) fn settings(c: &Comparison, facts: &StudyFacts) -> Section {
    let mut lines = c.settings.clone();
    let splits = repeats(c).map_or_else(|| "1 split".to_owned(), |n| format!("{n} splits"));
    lines.push(format!("Split by {}, {splits}", c.unit));
    lines.push(format!(
        "Seed {} (split, learners and all other draws). The same files and seed give the same numbers on any machine of \
         the same kind, with any number of cores.",
        c.seed
    ));
    lines.push(format!("Software: chestnut {}", c.version));
    let mut blocks = vec![Block::List(lines), Block::Heading("Wall time of each approach".to_owned())];
    if c.timings.is_empty() {
        blocks.push(Block::Missing("Not known: this run recorded none.".to_owned()));
    } else {
        let row = |t: &crate::evaluate::results::Timing| {
            vec![Cell::new(&t.approach), Cell::new(&t.stage), Cell::new(duration(t.seconds))]
        };
        let rows = c.timings.iter().map(row).collect();
        blocks.push(Block::Table(Table::new("Time of each approach", "plain", &["Approach", "Step", "Time"], rows)));
        blocks.push(Block::Notes(vec![
            "fit: all networks, first split. out-of-fold: the same again for thresholds and calibration.".to_owned(),
        ]));
    }
    blocks.push(Block::Heading("Wall time of each stage".to_owned()));
    let head = ["Stage", "Time", "Recorded"];
    match &facts.stages {
        Ok(stages) if !stages.is_empty() => {
            let row = |s: &super::super::facts::StageFacts| {
                let facts: Vec<String> = s.facts.iter().map(|(k, v)| format!("{k}: {}", short(v))).collect();
                vec![Cell::new(&s.name), Cell::new(duration(s.seconds)), Cell::new(facts.join("; "))]
            };
            let rows = stages.iter().map(row).collect();
            blocks.push(Block::Table(Table::new("Time of each stage", "plain", &head, rows)));
        }
        other => {
            let row = |(stage, s): &(String, f64)| vec![Cell::new(stage), Cell::new(duration(*s)), Cell::new("")];
            let rows: Vec<Vec<Cell>> = c.seconds.iter().map(row).collect();
            if !rows.is_empty() {
                blocks.push(Block::Table(Table::new("Time of each stage", "plain", &head, rows)));
            }
            let why = other.as_ref().err().map_or("manifest.json names no stage", String::as_str);
            blocks.push(Block::Missing(format!("What each stage recorded is not known: {why}.")));
        }
    }
    Section { id: "settings", title: "Settings, seed and times".to_owned(), blocks }
}

fn short(text: &str) -> String {
    crate::evaluate::table::clip(text, MAX_FACT)
}

/// What this study cannot say.
pub(super) fn limits(c: &Comparison) -> Section {
    Section { id: "limits", title: "Limits".to_owned(), blocks: vec![Block::List(finding::limits(c))] }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts;
    use super::*;
    use crate::report::example;

    #[test]
    fn hashes_seed_and_times_are_there() {
        let folder = facts::tests::study();
        let c = example::full();
        let text = format!("{:?}{:?}", networks(&c), settings(&c, &StudyFacts::read(folder.path())));
        for needle in
            ["0123456789abcdef", "ffffffff", "CC BY 4.0", "RF 100 trees", "Seed 7", "1 min 18 s", "weights_sha256: abc"]
        {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }

    #[test]
    fn without_a_manifest_the_comparison_still_knows_the_times() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let c = example::comparison();
        let text = format!("{:?}", settings(&c, &StudyFacts::read(folder.path())));
        assert!(text.contains("1 min 18 s") && text.contains("manifest.json is missing"), "{text}");
        assert!(text.contains("this run recorded none"));
    }
}
