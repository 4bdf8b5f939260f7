//! The report as one HTML page: what came out, how far it can be trusted, and what made it.
//!
//! A page is a template (frame.html.jinja, which opens every page, and report.html.jinja or published.html.jinja) with a
//! style sheet and inline SVG; it holds no script and asks for nothing from anywhere, readable on a phone and on paper.
//! What it says comes from `sections` and `finding`. The template escapes every value; only our own style sheets,
//! figures, links and base64 text are passed as safe. Words are plain, since readers are clinicians.

use super::document::Section;
use super::facts::StudyFacts;
use super::{ReportError, finding, sections, svg};
use crate::compare::PublishedTable;
use crate::evaluate::Comparison;
use crate::fs::read_bounded;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use std::path::Path;

/// Largest contact sheet that the page embeds; those that ingest draws have at most a few megabytes.
pub const MAX_SHEET_BYTES: u64 = 16 << 20;

/// Name and text of each template; the name's ending has every value escaped.
const REPORT: (&str, &str) =
    ("report.html.jinja", concat!(include_str!("frame.html.jinja"), include_str!("report.html.jinja")));
const PUBLISHED: (&str, &str) =
    ("published.html.jinja", concat!(include_str!("frame.html.jinja"), include_str!("published.html.jinja")));
const STYLE: &str = include_str!("report.css");

/// Pictures that the page embeds.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// The cohort's contact sheet, the bytes of a PNG file.
    pub contact_sheet_png: Option<Vec<u8>>,
}

impl Pictures {
    /// Those of the study in `folder`; a sheet that is no PNG file, or above [`MAX_SHEET_BYTES`], is left out.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let sheet = read_bounded(&folder.join("contact_sheet.png"), MAX_SHEET_BYTES).ok();
        Self { contact_sheet_png: sheet.filter(|png| png.starts_with(b"\x89PNG\r\n\x1a\n")) }
    }
}

/// The whole page.
///
/// # Errors
/// If the template and what it is given do not fit, which is a bug.
pub fn html(c: &Comparison, pictures: &Pictures, facts: &StudyFacts) -> Result<String, ReportError> {
    let sheet = pictures.contact_sheet_png.as_deref();
    let headline = finding::headline(c);
    let sections = sections::sections(c, facts);
    let contents: Value = sections.iter().map(|s| context! { id => s.id, title => s.title.as_str() }).collect();
    let sections: Value = sections.iter().map(Section::value).collect();
    let values = context! {
        style => style(),
        title => c.title.as_str(),
        version => c.version.as_str(),
        seed => c.seed.to_string(),
        recipe_hash => c.recipe_hash.as_str(),
        number => headline.number.as_str(),
        interval => headline.interval.as_str(),
        words => headline.words.as_str(),
        meaning => headline.meaning.as_str(),
        caveats => finding::caveats(c),
        banners => finding::banners(c),
        warnings => c.warnings.clone(),
        contents => contents,
        sections => sections,
        sheet => sheet.map(|png| Value::from_safe_string(format!("data:image/png;base64,{}", base64(png)))),
        flow => flow(c),
    };
    render(REPORT, values)
}

/// The page of the paper's Tables 5 to 7, made by its own protocol for the study of this name.
///
/// # Errors
/// As [`html`].
pub(super) fn published(study: &str, tables: &[PublishedTable]) -> Result<String, ReportError> {
    let untrained = tables.first().and_then(|t| finding::untrained(&t.comparison));
    let banners: Vec<String> = untrained.into_iter().chain([finding::AS_PUBLISHED.to_owned()]).collect();
    let sections: Value = sections::published(tables).iter().map(Section::value).collect();
    let values = context! {
        style => style(),
        title => format!("{study}: the paper\u{2019}s Tables 5 to 7, as published"),
        version => env!("CARGO_PKG_VERSION"),
        banners => banners,
        sections => sections,
    };
    render(PUBLISHED, values)
}

fn render((name, template): (&str, &str), values: Value) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(name, template)?;
    Ok(environment.get_template(name)?.render(values)?)
}

/// The style sheets of pages and figures.
fn style() -> Value {
    Value::from_safe_string(format!("{STYLE}{}", svg::STYLE))
}

/// Found, used, and into which parts.
fn flow(c: &Comparison) -> Value {
    let refused: usize = c.rejects.iter().map(|(_, n)| n).sum();
    let parts: Value = c
        .parts
        .iter()
        .map(|p| context! { part => p.part.as_str(), images => p.images, patients => p.patients })
        .collect();
    context! {
        found => c.images + refused,
        refused => refused,
        rows => c.refused_rows,
        images => c.images,
        patients => c.patients,
        parts => parts,
    }
}

/// Standard base64 with padding (RFC 4648).
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| u32::from(chunk.get(i).copied().unwrap_or(0)));
        let group = (a << 16) | (b << 8) | c;
        for i in 0..4 {
            if i <= chunk.len() {
                let digit = (group >> (18 - 6 * i)) & 63;
                text.push(char::from(ALPHABET[digit as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::table::decimal;
    use crate::report::{example, facts};

    /// Sections of the page in order.
    const SECTIONS: [&str; 19] = [
        "results",
        "roc",
        "forest",
        "differences",
        "spread",
        "points",
        "calibration",
        "decision",
        "subgroups",
        "learning",
        "explained",
        "cohort",
        "networks",
        "settings",
        "limits",
        "claim",
        "tripod",
        "card",
        "cite",
    ];

    fn page(c: &Comparison) -> String {
        let folder = facts::tests::study();
        let pictures = Pictures { contact_sheet_png: Some(vec![0x89, b'P', b'N', b'G']) };
        html(c, &pictures, &StudyFacts::read(folder.path())).expect("a page")
    }

    /// The page of a study of which no file is left.
    fn bare(c: &Comparison) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        html(c, &Pictures::default(), &StudyFacts::read(folder.path())).expect("a page")
    }

    #[test]
    fn every_section_is_there_and_in_the_contents() {
        let mut empty = example::comparison();
        (empty.methods, empty.rejects, empty.parts) = (Vec::new(), Vec::new(), Vec::new());
        for page in [page(&example::full()), page(&example::comparison()), bare(&empty)] {
            assert!(page.contains("<section id=\"answer\">"));
            let mut from = 0;
            for id in SECTIONS {
                let at = page[from..].find(&format!("<section id=\"{id}\">"));
                from += at.unwrap_or_else(|| panic!("{id} is missing or out of order"));
                assert!(page.contains(&format!("<a href=\"#{id}\">")), "{id}");
            }
        }
    }

    #[test]
    fn everything_that_the_run_knows_is_said() {
        let page = page(&example::full());
        for needle in [
            "data:image/png;base64,iVBORw==",
            "no positive image in the test part",
            "n.e.",
            "two patients share a picture",
            "cannot be read as an image",
            "<b>405</b> files found",
            "5 files refused, and 4 rows of the table",
            "0123456789abcdef",
            "CC BY 4.0",
            "RF 100 trees, depth 10",
            "1 min 18 s",
            "research use only",
            "Over 3 splits",
            "Few positive test images: PNX (6)",
            "Table 5.",
            "Table 6.",
            "Table 7.",
            "p (Holm)",
            "Youden",
            "Brier score",
            "too few to say",
            "treat all",
            "isotonic",
            "To be completed by the authors",
            "weights_sha256: abc",
        ] {
            assert!(page.contains(needle), "{needle}");
        }
        assert!(!page.contains("class=\"banner\""));
        assert!(!page.contains("secret"), "names of refused files stay in rejects.csv");
    }

    #[test]
    fn the_first_sentence_is_the_finding_with_its_interval() {
        let c = example::full();
        let f = finding::finding(&c).expect("a finding");
        let [low, high] = f.interval.expect("an interval");
        let sentence = format!("95 % interval {} to {}", decimal(low), decimal(high));
        let page = page(&c);
        assert!(page.find(&sentence).expect("a sentence") < page.find("<nav").expect("contents"));
        assert!(page.find("research use only").expect("a warning") < page.find("<nav").expect("contents"));
        assert_eq!((f.method.source.as_str(), f.among), ("Average", 2));
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&example::full());
        for forbidden in ["<script", "<link", "<iframe", "<object", "@import", "url(", " onload", "srcset", "http"] {
            let allowed = page.matches("http-equiv").count();
            let found = page.matches(forbidden).count();
            assert_eq!(found, if forbidden == "http" { allowed } else { 0 }, "{forbidden}");
        }
        assert!(page.split("src=\"").skip(1).all(|rest| rest.starts_with("data:image/png;base64,")));
        assert!(page.split("href=\"").skip(1).all(|rest| rest.starts_with('#')));
    }

    #[test]
    fn the_papers_own_protocol_has_its_page_and_is_linked_if_it_is_there() {
        let folder = facts::tests::study();
        let report = |folder: &std::path::Path| {
            html(&example::full(), &Pictures::default(), &StudyFacts::read(folder)).expect("a page")
        };
        assert!(!report(folder.path()).contains("../as_published/"));
        let page = published("<i>study", &sections::published_tests::tables()).expect("a page");
        for needle in [
            "<!doctype html>",
            "SPLIT AS PUBLISHED",
            "AS PUBLISHED, table5",
            "AS PUBLISHED, table6",
            "Table 7. Fine-tuning",
            "Why these tables are no fair comparison",
            "&lt;i&gt;study",
        ] {
            assert!(page.contains(needle), "{needle}");
        }
        for forbidden in ["<script", "<link", "url(", "src=\"", "href=\"", "http:", "<i>study"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        std::fs::create_dir_all(folder.path().join("as_published")).expect("a folder");
        std::fs::write(folder.path().join("as_published/index.html"), page).expect("a file");
        assert_eq!(report(folder.path()).matches("href=\"../as_published/index.html\"").count(), 1);
    }

    #[test]
    fn names_are_escaped() {
        let mut c = example::full();
        c.marks = vec!["<script>alert(1)</script>".to_owned()];
        c.methods[1].source = "<img src=x>".to_owned();
        c.details[0].source = "<img src=x>".to_owned();
        c.settings.push("<svg onload=x>".to_owned());
        let page = page(&c);
        assert!(page.contains("<th scope=\"col\">&lt;b&gt;"));
        assert!(page.contains("<title>study &amp; &lt;script&gt;: chestnut report</title>"));
        for forbidden in ["<script", "<img src=x", "<svg onload"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        // Every bold name is one of ours: the label <b> never opens an element.
        assert!(!page.contains("<b></") && !page.contains("<b>*"));
    }

    #[test]
    fn untrained_networks_image_splits_and_marks_raise_a_banner() {
        let mut c = example::comparison();
        c.networks[0].weights = "seeded (not trained)".to_owned();
        c.unit = "image".to_owned();
        c.as_published = true;
        c.marks = vec!["a mark of its own".to_owned()];
        let page = page(&c);
        let top = page.split("<nav").next().expect("the first screen");
        assert_eq!(top.matches("class=\"banner\"").count(), 4);
        for needle in ["Not trained: densenet121", "SPLIT BY IMAGE", "SPLIT AS PUBLISHED", "a mark of its own"] {
            assert!(top.contains(needle), "{needle}");
        }
        // Tables, spread: marked as well.
        assert!(page.matches("class=\"mark\"").count() >= 6);
    }

    #[test]
    fn an_empty_comparison_still_makes_a_page() {
        let mut c = example::comparison();
        (c.methods, c.rejects, c.parts, c.refused_rows) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let page = bare(&c);
        assert!(page.contains("No AUC could be estimated") && page.contains("Nothing was refused"));
        assert!(page.contains("cohort.csv is missing") && !page.contains("<img"));
    }

    #[test]
    fn only_a_small_png_is_a_contact_sheet() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(Pictures::of(folder.path()).contact_sheet_png.is_none());
        let path = folder.path().join("contact_sheet.png");
        let mut sheet = b"\x89PNG\r\n\x1a\nrest".to_vec();
        std::fs::write(&path, &sheet).expect("written");
        assert_eq!(Pictures::of(folder.path()).contact_sheet_png.as_deref(), Some(&sheet[..]));
        sheet.resize(MAX_SHEET_BYTES as usize + 1, 0);
        std::fs::write(&path, &sheet).expect("written");
        assert!(Pictures::of(folder.path()).contact_sheet_png.is_none(), "too large");
        std::fs::write(&path, "a secret").expect("written");
        assert!(Pictures::of(folder.path()).contact_sheet_png.is_none(), "no picture");
    }

    #[test]
    fn base64_of_rfc_4648() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!(["", "f", "fo", "foo", "foobar"].map(of), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy"]);
    }
}
