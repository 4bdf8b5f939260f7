//! `explain/index.html`: overlays, contact sheets, mean maps and tables of one run on one page, to be looked through on
//! a screen or a phone.
//!
//! Pictures are linked by their paths below the page's folder, so the folder can be moved as a whole; style is inside,
//! there is no script, and nothing is fetched from anywhere. The template escapes every name.

use super::agreement::{LabelAgreement, RECALL_NOTE};
use super::batches::{Batches, Over, Pair, describe};
use super::lungs::Lungs;
use super::masked::Shortcuts;
use super::means::Means;
use super::pictures::Picture;
use super::{MaskRule, SOURCES};
use crate::error::{Error, Result};
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::{Deserialize, Serialize};

const TEMPLATE: &str = include_str!("gallery.html.jinja");
const NAME: &str = "gallery.html.jinja";
const STYLE: &str = include_str!("../report/report.css");
/// Pictures of one section that are shown; the others are counted.
pub const MAX_SHOWN: usize = 400;

/// A heading with its pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Heading.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// Pictures, in order.
    pub pictures: Vec<Picture>,
}

/// A table with its heading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Heading.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// Names of the columns.
    pub head: Vec<String>,
    /// Cells as they are shown.
    pub rows: Vec<Vec<String>>,
}

/// All that the page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gallery {
    /// Name of the study.
    pub title: String,
    /// What was explained and how, one line each.
    pub facts: Vec<String>,
    /// What must not be overlooked.
    pub warnings: Vec<String>,
    /// Tables, shown first.
    pub tables: Vec<Grid>,
    /// Pictures.
    pub sections: Vec<Section>,
}

impl Gallery {
    /// The page.
    ///
    /// # Errors
    /// If the template and what it is given do not fit, which is a bug.
    pub fn html(&self) -> Result<String> {
        let fault = |e: minijinja::Error| Error::Request(format!("explain/index.html cannot be made: {e}"));
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template(NAME, TEMPLATE).map_err(fault)?;
        let template = environment.get_template(NAME).map_err(fault)?;
        let sections: Vec<Value> = self.sections.iter().filter(|s| !s.pictures.is_empty()).map(section).collect();
        let table = |t: &Grid| {
            context! {
                title => t.title.as_str(),
                note => t.note.as_str(),
                head => t.head.clone(),
                rows => t.rows.clone(),
            }
        };
        let tables: Vec<Value> = self.tables.iter().filter(|t| !t.rows.is_empty()).map(table).collect();
        let page = template.render(context! {
            style => Value::from_safe_string(STYLE.to_owned()),
            title => self.title.as_str(),
            version => env!("CARGO_PKG_VERSION"),
            facts => self.facts.clone(),
            warnings => self.warnings.clone(),
            tables => tables,
            sections => sections,
        });
        page.map_err(fault)
    }
}

fn section(s: &Section) -> Value {
    let shown: Vec<Value> = s
        .pictures
        .iter()
        .take(MAX_SHOWN)
        .map(|p| {
            let below = p.below.as_deref().map(|b| context! { path => b.path.as_str(), words => b.words.as_str() });
            context! { path => p.path.as_str(), words => p.words.as_str(), below => below }
        })
        .collect();
    let more = s.pictures.len() - shown.len();
    context! { title => s.title.as_str(), note => s.note.as_str(), pictures => shown, more => more }
}

/// The agreement table: one row per label and map, the measures that people ask for first. `mask` is the rule that made
/// the masks.
#[must_use]
pub fn agreement_table(table: &[LabelAgreement], mask: MaskRule) -> Grid {
    const SHOWN: [(&str, &str); 5] = [
        ("coverage", "coverage"),
        ("iou", "IoU"),
        ("hit", "pointing game"),
        ("pixel_auc", "pixel AUC"),
        ("mask_share", "share of the image in the mask"),
    ];
    let head = ["label", "map", "findings", "patients"].into_iter().chain(SHOWN.iter().map(|(_, name)| *name));
    let cell = |row: &LabelAgreement, name: &str| {
        let found = row.measures.iter().find(|m| m.measure == name);
        match found.map(|m| (m.mean, m.interval)) {
            Some((Some(mean), Some([low, high]))) => format!("{mean:.2} ({low:.2} to {high:.2})"),
            Some((Some(mean), None)) => format!("{mean:.2}"),
            _ => "-".to_owned(),
        }
    };
    let line = |row: &LabelAgreement| {
        let mut cells = vec![row.label.clone(), row.source.clone(), row.regions.to_string(), row.patients.to_string()];
        cells.extend(SHOWN.iter().map(|(measure, _)| cell(row, measure)));
        cells
    };
    Grid {
        title: "Agreement with experts".to_owned(),
        note: format!(
            "Means over outlined findings, 95 % intervals over patients. Mask: {}. {RECALL_NOTE} Rows that begin with \
             chance are maps that never saw the image.",
            mask.describe()
        ),
        head: head.map(str::to_owned).collect(),
        rows: table.iter().map(line).collect(),
    }
}

/// Where the heat of the mean maps lies: one row per label and model.
///
/// # Errors
/// If a mean map cannot be measured.
pub fn heat_table(labels: &[String], means: &Means, lungs: &Lungs) -> Result<Grid> {
    let share = |heat: f64, even: f64| format!("{:.0} % ({:.0} %)", 100.0 * heat, 100.0 * even);
    let mut rows = Vec::new();
    for (k, label) in labels.iter().enumerate() {
        for (source, model) in SOURCES.into_iter().enumerate() {
            let Some(s) = means.shares(source, k)? else { continue };
            let outside = s.outside_lungs.zip(s.outside_lungs_area);
            rows.push(vec![
                label.clone(),
                model.to_owned(),
                means.maps[source][k].images().to_string(),
                share(s.border, s.border_area),
                share(s.corners, s.corners_area),
                outside.map_or_else(|| "-".to_owned(), |(heat, even)| share(heat, even)),
                means.lungs[source][k].images().to_string(),
            ]);
        }
    }
    let head = ["label", "model", "images", "outer tenth", "corners", "outside the lungs", "images with lungs"];
    Ok(Grid {
        title: "Where the heat lies".to_owned(),
        note: format!(
            "Share of the mean map\u{2019}s heat, in brackets that of an even map. Much more than that in the outer tenth \
             or the corners is a reason to look for markers. {}",
            lungs.describe()
        ),
        head: head.map(str::to_owned).to_vec(),
        rows,
    })
}

/// How far the mean maps of two batches are alike, as a table.
#[must_use]
pub fn stability_table(batches: &Batches) -> Grid {
    let pairs = batches.pairs().into_iter().filter(|p| !matches!(p.over, Over::TopOf(_)));
    let line = |pair: Pair<'_>| {
        let [first, second] = pair.maps.map(|m| m.images().to_string());
        vec![
            batches.label(pair.over).unwrap_or("any").to_owned(),
            SOURCES[pair.source].to_owned(),
            describe(pair.over).to_owned(),
            first,
            second,
            pair.correlation().map_or_else(|| "-".to_owned(), |r| format!("{r:.2}")),
        ]
    };
    let head = ["label", "model", "mean over", "images, batch 1", "images, batch 2", "correlation"];
    Grid {
        title: "Are the mean maps stable?".to_owned(),
        note: format!(
            "{} Pearson\u{2019}s correlation of the two mean maps: near 1, other images would give the same picture; \
             far below, the mean says more of these images than of the model. Images whose map is empty are not \
             counted. batches.csv also has each label over the images where it is the most probable one.",
            batches.describe()
        ),
        head: head.map(str::to_owned).to_vec(),
        rows: pairs.map(line).collect(),
    }
}

/// The shortcut check as a table.
#[must_use]
pub fn shortcut_table(check: &Shortcuts) -> Grid {
    let line = |s: &super::masked::MaskedScore| {
        let auc = match (s.score.auc, s.score.interval) {
            (Some(auc), Some([low, high])) => format!("{auc:.2} ({low:.2} to {high:.2})"),
            (Some(auc), None) => format!("{auc:.2}"),
            _ => s.score.reason.clone().unwrap_or_else(|| "-".to_owned()),
        };
        let mark = if s.warning.is_some() { "look here" } else { "" };
        vec![
            s.score.label.clone(),
            s.source.to_owned(),
            s.view.clone(),
            s.score.positives.to_string(),
            auc,
            mark.to_owned(),
        ]
    };
    Grid {
        title: "Does a label survive without the chest?".to_owned(),
        note: "AUC of the same models when parts of every image are hidden. What is told from border or corners alone \
               is not told from the finding. Of many labels and views some are marked by chance, about one in forty."
            .to_owned(),
        head: ["label", "model", "visible", "positives", "AUC (95 % interval)", ""].map(str::to_owned).to_vec(),
        rows: check.scores.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gallery() -> Gallery {
        let picture = |path: &str| Picture {
            path: path.to_owned(),
            words: "Lung <0.9> & \"row\" 3".to_owned(),
            row: Some(1),
            below: None,
        };
        let overlays = Section {
            title: "Overlays <b>".to_owned(),
            note: "note".to_owned(),
            pictures: vec![picture("overlays/Lung-00001-a.png"); MAX_SHOWN + 2],
        };
        let empty = Section { title: "Nothing here".to_owned(), ..Section::default() };
        let table = Grid {
            title: "T".to_owned(),
            head: vec!["a".to_owned()],
            rows: vec![vec!["<script>alert(1)</script>".to_owned()]],
            ..Grid::default()
        };
        Gallery {
            title: "study & co".to_owned(),
            facts: vec!["1 image".to_owned()],
            warnings: vec!["<i>careful</i>".to_owned()],
            tables: vec![table],
            sections: vec![overlays, empty],
        }
    }

    #[test]
    fn the_page_escapes_names_and_links_pictures_below_itself() {
        let page = gallery().html().expect("a page");
        assert!(page.starts_with("<!doctype html>"), "{page}");
        for raw in ["<script", "<i>careful", "Lung <0.9>", "Overlays <b>"] {
            assert!(!page.contains(raw), "{raw} is not escaped");
        }
        for outside in ["http:", "https:", "@import", "src=\"/", "file:"] {
            assert!(!page.contains(outside), "the page must not fetch anything: {outside}");
        }
        assert_eq!(page.matches("<img ").count(), MAX_SHOWN);
        assert!(page.contains("overlays") && page.contains("Lung-00001-a.png") && page.contains("2 more"), "{page}");
        assert!(page.contains("study &amp; co") && !page.contains("Nothing here"), "{page}");
        assert!(page.contains("name=\"viewport\""), "readable on a phone");
    }

    #[test]
    fn similar_cases_stand_below_their_picture() {
        let strip =
            Picture { path: "similar/00001-a.png".to_owned(), words: "<u>row 7".to_owned(), row: None, below: None };
        let mut gallery = gallery();
        gallery.sections[0].pictures.truncate(2);
        gallery.sections[0].pictures[1].below = Some(Box::new(strip));
        let page = gallery.html().expect("a page").replace("&#x2f;", "/");
        assert_eq!(page.matches("<img ").count(), 3);
        assert!(page.contains("similar/00001-a.png") && page.contains("&lt;u&gt;row 7"), "{page}");
        assert!(page.find("overlays/Lung").expect("a picture") < page.find("similar/").expect("its strip"));
    }

    #[test]
    fn tables_show_intervals_and_what_is_missing() {
        use crate::explain::agreement::MeasureSummary;
        let measure = |name: &str, mean, interval| MeasureSummary {
            measure: name.to_owned(),
            regions: 3,
            mean,
            interval,
            reason: None,
        };
        let row = LabelAgreement {
            label: "Lung".to_owned(),
            source: "forest".to_owned(),
            regions: 3,
            patients: 2,
            measures: vec![measure("coverage", Some(0.25), Some([0.1, 0.4])), measure("iou", None, None)],
        };
        let table = agreement_table(&[row], MaskRule::Share(0.1));
        assert_eq!(table.head.len(), 9);
        assert!(table.note.contains("Mask: fewest pixels with 0.1 of the positive heat."), "{}", table.note);
        assert_eq!(table.rows[0][..6], ["Lung", "forest", "3", "2", "0.25 (0.10 to 0.40)", "-"]);
        assert!(shortcut_table(&Shortcuts::default()).rows.is_empty());
    }

    #[test]
    fn the_heat_table_says_how_rough_the_lungs_are() {
        use crate::explain::CamKind;
        use crate::explain::stage::tests::{explained_of, map_at};
        let explained = explained_of(&[[map_at(0), map_at(3)], [map_at(0), map_at(3)]], &[[0.5; 2]; 2]);
        let lungs = Lungs::rough(16).expect("a grid");
        let means = Means::of(&explained, CamKind::GradCam, 16, &lungs).expect("possible");
        let table = heat_table(&explained.labels, &means, &lungs).expect("a table");
        assert_eq!((table.rows.len(), table.rows[0].len()), (4, table.head.len()));
        assert_eq!(table.rows[0][..3], ["Lung", "fine-tuned head", "2"]);
        assert!(table.rows.iter().all(|r| r[5].ends_with("%)") && r[6] == "2"), "{table:?}");
        assert!(table.note.contains("two ellipses, the same on every image"), "{}", table.note);
    }

    #[test]
    fn the_stability_table_has_the_top_and_each_label() {
        use crate::explain::batches::batches;
        use crate::explain::stage::tests::{explained_of, map_at};
        let maps = [[map_at(0), map_at(1)], [map_at(0), map_at(2)]];
        let found = batches(&explained_of(&maps, &[[0.9, 0.1]; 2]), crate::explain::CamKind::GradCam, 7, 8, 1);
        let table = stability_table(&found.expect("possible"));
        assert_eq!(table.rows.len(), 2 * 3);
        assert_eq!(table.rows[1], ["Lung", "fine-tuned head", "all images", "1", "1", "1.00"]);
        assert_eq!(table.rows[3][..3], ["any", "forest", "most probable label of each image"]);
        assert!(table.note.starts_with("Two random batches of 1 and 1 images"), "{}", table.note);
    }
}
