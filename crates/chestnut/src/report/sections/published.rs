//! The page of `compare --as-published`: Tables 5 to 7 in the paper's layout, each by the paper's own protocol.
//!
//! Every table stands below its mark and the reasons why it is no fair comparison (paper section 2.3). Counts of images
//! come from the tables themselves; what is said about the published tables was worked out from their printed cells.
//! Nothing of it may be mixed with the study's own report, which only links here.

use super::super::document::{Block, Section};
use super::super::finding;
use super::super::words::several;
use super::paper::{BOLD, PaperTable};
use super::provenance;
use crate::compare::PublishedTable;
use crate::evaluate::table::{self, few_labels, test_part};
use crate::evaluate::{Comparison, FEW_POSITIVES};

/// The page as seen from report/index.html.
const FROM_REPORT: &str = "../as_published/index.html";

/// The way from the study's own report to the page.
pub(super) fn link() -> Block {
    let words = "Not these numbers, but the paper\u{2019}s Tables 5 to 7 of the same networks, by its own protocol (compare \
                 --as-published): as_published/index.html in the study";
    Block::Link(words.to_owned(), FROM_REPORT)
}

/// All sections but the way to cite.
pub(in crate::report) fn published(tables: &[PublishedTable]) -> Vec<Section> {
    let mut all = vec![why(tables)];
    for (table, id) in PaperTable::ALL.into_iter().zip(["table5", "table6", "table7"]) {
        all.push(section(table, id, tables.iter().find(|t| t.name == id).map(|t| &t.comparison)));
    }
    let Some(first) = tables.first() else { return all };
    let mut settings = tables.iter().flat_map(|t| t.comparison.settings.iter().cloned()).collect::<Vec<_>>();
    settings.push(format!("Seed {}: splits and all other draws.", first.comparison.seed));
    settings.push(format!("Software: chestnut {}", first.comparison.version));
    let blocks = vec![Block::List(settings)];
    all.extend([
        Section { id: "settings", title: "Settings and seed".to_owned(), blocks },
        provenance::networks(&first.comparison),
    ]);
    all
}

/// One table, below its mark and reasons.
fn section(table: PaperTable, id: &'static str, made: Option<&Comparison>) -> Section {
    let title = table.title().to_owned();
    let Some(c) = made else {
        return Section { id, title, blocks: vec![Block::Missing(table.missing().to_owned())] };
    };
    let marks = || table::marks(c).into_iter().map(Block::Mark);
    let mut blocks: Vec<Block> = marks().collect();
    blocks.push(Block::List(reasons(table, c)));
    let tested = c.methods.iter().find_map(|m| m.tested_on.clone()).unwrap_or_else(|| finding::tested(c));
    blocks.push(Block::Text(format!(
        "AUC on {tested}, with DeLong\u{2019}s 95 % interval below it, which the paper does not print. Below each label: \
         positive / known images that were tested on."
    )));
    for (heading, block) in table.blocks(c) {
        // The section bears the table's own heading.
        if heading != table.title() {
            blocks.push(Block::Heading(heading.to_owned()));
            blocks.extend(marks());
        }
        blocks.push(block);
    }
    blocks.push(Block::Notes([vec![BOLD.to_owned()], table::footnotes(c)].concat()));
    Section { id, title, blocks }
}

/// Why this table alone misleads.
fn reasons(table: PaperTable, c: &Comparison) -> Vec<String> {
    let mut lines = match table {
        PaperTable::Baseline => vec![
            "Nothing is learned here, so nothing is held out: this test set is the whole cohort, those images included \
             that the other tables learn from."
                .to_owned(),
        ],
        PaperTable::Embeddings => vec![
            "Images were dealt out one by one. Films of one patient are alike, and where one of them was learned from and \
             another is tested on, the AUC is higher than new patients would give."
                .to_owned(),
        ],
        PaperTable::FineTuning => vec![
            "Images were dealt out one by one, so that films of one patient are on both sides here too.".to_owned(),
            "The row of stacking is fitted in-sample: its forest learns from what the heads say about the very images \
             they were taught on, where they are surer than on any other."
                .to_owned(),
            "Five epochs whose learning rate falls tenfold after each end long before a new head is done. The table shows \
             that schedule as much as it shows fine-tuning."
                .to_owned(),
        ],
    };
    let few = few_labels(c);
    if !few.is_empty() {
        lines.push(format!(
            "Fewer than {FEW_POSITIVES} positive test images: {}. A few films more or less move these AUCs, and the mean \
             with them.",
            few.join(", ")
        ));
    }
    lines
}

/// Why no two tables may be compared.
fn why(tables: &[PublishedTable]) -> Section {
    let size = |t: &PublishedTable| {
        let name = t.name.strip_prefix("table").unwrap_or(t.name);
        test_part(&t.comparison).map(|p| format!("Table {name} on {}", several(p.images, "image")))
    };
    let sizes: Vec<String> = tables.iter().filter_map(size).collect();
    let lines = vec![
        format!(
            "Each table has a test set of its own: {}. A difference between two tables may come from the images and not \
             from the approach.",
            sizes.join(", ")
        ),
        "Tables 6 and 7 split by image, so that images of one patient are learned from and tested on.".to_owned(),
        "Each split was drawn once, by lot, without balancing the labels. How much another draw would change is not \
         known, and no difference is tested."
            .to_owned(),
        "A mean weighs all labels alike, and one of them can carry it. In the published tables that is Bone, for which \
         the networks\u{2019} own Fracture is a bad stand-in: by the printed cells, without Bone the mean of the averaged \
         fine-tuned networks is .867 and that of the averaged random forests .858."
            .to_owned(),
        "Thresholds, calibration and groups of patients are not looked at.".to_owned(),
    ];
    let mut blocks = vec![
        Block::Text(
            "These tables repeat what the paper did, for those who want to set their numbers beside its own. They cannot \
             say which approach is better, for these reasons:"
                .to_owned(),
        ),
        Block::List(lines),
        Block::Text(
            "For that question read the study\u{2019}s own report, report/index.html: one split for all approaches, by \
             patient unless it says otherwise, with intervals and tests."
                .to_owned(),
        ),
    ];
    let mut warnings: Vec<String> = Vec::new();
    for warning in tables.iter().flat_map(|t| &t.comparison.warnings) {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    if !warnings.is_empty() {
        blocks.extend([Block::Heading("Warnings".to_owned()), Block::List(warnings)]);
    }
    Section { id: "why", title: "Why these tables are no fair comparison".to_owned(), blocks }
}

#[cfg(test)]
pub(in crate::report) mod tests {
    use super::*;
    use crate::report::example;

    /// Tables 5 and 6 of a study whose networks were not fine-tuned.
    pub(in crate::report) fn tables() -> Vec<PublishedTable> {
        let table = |name, approach: &str, tested: &str| {
            let mut c = example::comparison();
            (c.as_published, c.unit) = (true, "image".to_owned());
            c.marks = vec![format!("AS PUBLISHED, {name}")];
            for m in &mut c.methods {
                (m.tested_on, m.spread) = (Some(tested.to_owned()), None);
                if !approach.is_empty() {
                    m.approach = approach.to_owned();
                }
            }
            PublishedTable { name, comparison: c }
        };
        vec![table("table5", "Baseline", "all 400 images"), table("table6", "", "120 images")]
    }

    #[test]
    fn every_table_stands_below_its_mark_and_its_reasons() {
        let sections = published(&tables());
        let ids: Vec<&str> = sections.iter().map(|s| s.id).collect();
        assert_eq!(ids, ["why", "table5", "table6", "table7", "settings", "networks"]);
        for (section, mark) in sections[1..3].iter().zip(["AS PUBLISHED, table5", "AS PUBLISHED, table6"]) {
            assert!(matches!(&section.blocks[0], Block::Mark(text) if text == mark), "{section:?}");
            assert!(matches!(&section.blocks[1], Block::List(lines) if lines[1].contains("PNX (6)")), "{section:?}");
            assert!(section.blocks[2..].iter().any(|b| matches!(b, Block::Table(_))));
        }
        // Table 6 and the networks behind it.
        let marks = sections[2].blocks.iter().filter(|b| matches!(b, Block::Mark(_))).count();
        assert_eq!((marks, sections[2].blocks.iter().filter(|b| matches!(b, Block::Table(_))).count()), (2, 2));
        // What was not made says why, and no row says again what all of them were tested on.
        assert!(matches!(&sections[3].blocks[..], [Block::Missing(why)] if why.starts_with("Not made")));
        assert_eq!(format!("{sections:?}").matches("all 400 images").count(), 1);
        assert!(format!("{:?}", sections[0]).contains("Table 5 on 120 images, Table 6 on 120 images"));
    }

    #[test]
    fn nothing_made_is_no_crash() {
        assert!(published(&[]).iter().skip(1).all(|s| matches!(&s.blocks[..], [Block::Missing(_)])));
    }
}
