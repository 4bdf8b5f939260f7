//! The report as one HTML page: what came out, how far it can be trusted, and what made it.
//!
//! The page is a template (report.html.jinja) with a style sheet and inline SVG; it holds no script and asks for
//! nothing from anywhere, readable on a phone, in the dark and on paper. The template escapes every value; only our
//! own style sheets, figures and base64 text are passed as safe. Words are plain, since readers are clinicians.

use super::{ReportError, figures, svg};
use crate::evaluate::table::{self, NOT_ESTIMABLE, approaches, counts, decimal, is_few, range, spread_of, test_part};
use crate::evaluate::{Comparison, FEW_POSITIVES, MethodScore};
use minijinja::{Environment, UndefinedBehavior, Value, context};

const TEMPLATE: &str = include_str!("report.html.jinja");
const NAME: &str = "report.html.jinja";
const STYLE: &str = include_str!("report.css");
/// Reasons for refusal shown on the page; the rest is in rejects.csv.
const MAX_REASONS: usize = 12;

/// Pictures that the page embeds.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// The cohort's contact sheet, the bytes of a PNG file.
    pub contact_sheet_png: Option<Vec<u8>>,
}

/// The whole page.
///
/// # Errors
/// If the template and what it is given do not fit, which is a bug.
pub fn html(c: &Comparison, pictures: &Pictures) -> Result<String, ReportError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template(NAME, TEMPLATE)?;
    let sheet = pictures.contact_sheet_png.as_deref();
    let page = environment.get_template(NAME)?.render(context! {
        style => safe(format!("{STYLE}{}", svg::STYLE)),
        title => c.title.as_str(),
        version => c.version.as_str(),
        unit => c.unit.as_str(),
        seed => c.seed.to_string(),
        recipe_hash => c.recipe_hash.as_str(),
        headline => headline(c),
        caveats => caveats(c),
        banners => banners(c),
        warnings => c.warnings.clone(),
        heads => heads(c),
        groups => groups(c, &auc_cell),
        notes => table::notes(c),
        roc => roc(c),
        forest => safe_all(figures::forest_plot(c)),
        repeats => table::repeats(c).unwrap_or(0),
        spread => safe_all(figures::spread_plot(c)),
        spread_groups => groups(c, &spread_cell),
        sheet => sheet.map(|png| safe(format!("data:image/png;base64,{}", base64(png)))),
        flow => flow(c),
        recipe => c.recipe.clone(),
        networks => networks(c),
        settings => c.settings.clone(),
        times => times(c),
        limits => limits(c),
    })?;
    Ok(page)
}

fn safe(text: String) -> Value {
    Value::from_safe_string(text)
}

fn safe_all(texts: Vec<String>) -> Value {
    texts.into_iter().map(safe).collect()
}

/// The method with the greatest mean AUC.
fn best(c: &Comparison) -> Option<(&MethodScore, f64)> {
    let with_mean = c.methods.iter().filter_map(|m| m.mean_auc.map(|mean| (m, mean)));
    with_mean.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

/// Labels with an AUC in this row.
fn estimated(m: &MethodScore) -> usize {
    m.labels.iter().filter(|l| l.auc.is_some()).count()
}

/// `number` with its noun in the right form.
fn several(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The answer: number, what it belongs to, and one sentence on its meaning.
fn headline(c: &Comparison) -> Value {
    let (images, patients) = test_part(c).map_or((0, 0), |p| (p.images, p.patients));
    let test = format!("{} of {}", several(images, "test image"), several(patients, "patient"));
    let Some((m, mean)) = best(c) else {
        let words = format!("No AUC could be estimated on {test}. The table below says why for each label.");
        return context! { number => NOT_ESTIMABLE, what => "mean AUC", words => words };
    };
    let words = format!(
        "{}, {}: the best of {}, on {test}. The mean is over {}. Read it like this: shown one image with a finding \
         and one without, this method ranks them rightly in about {:.0} of 100 such pairs; 50 would be guessing.",
        m.approach,
        m.source,
        several(c.methods.len(), "method"),
        several(estimated(m), "label"),
        mean * 100.0
    );
    context! { number => decimal(mean), what => "mean AUC", words => words }
}

/// What must be known before the headline is repeated to anybody.
fn caveats(c: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    let Some((m, _)) = best(c) else { return lines };
    if c.methods.len() > 1 {
        lines.push(
            "It was picked for being the highest on the very images it is judged by, so it flatters a little. Look at the \
             intervals before you call one method better than another."
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
        (Some([mean, sd, low, high]), Some(n)) => lines.push(format!(
            "Over {n} random splits its mean AUC was {} \u{b1} {} (standard deviation), from {} to {}.",
            decimal(mean),
            decimal(sd),
            decimal(low),
            decimal(high)
        )),
        _ => lines
            .push("It rests on one random split; repeat it (--repeats 20) to see how much splits differ.".to_owned()),
    }
    lines
}

/// What would make the numbers misleading, in a box that cannot be overlooked.
fn banners(c: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    let seeded: Vec<&str> = c.networks.iter().filter(|n| is_seeded(&n.weights)).map(|n| n.name.as_str()).collect();
    if !seeded.is_empty() {
        lines.push(format!(
            "Not trained: {}. Weights of these networks come from a formula, so the AUCs show that the chain works and \
             say nothing about how good it can be.",
            seeded.join(", ")
        ));
    }
    if table::is_split_by_image(c) {
        lines.push(table::SPLIT_BY_IMAGE.to_owned());
    }
    lines
}

fn is_seeded(weights: &str) -> bool {
    weights.starts_with("seeded")
}

fn heads(c: &Comparison) -> Value {
    let head = |(k, label): (usize, &String)| {
        let counts = counts(c, k).map_or_else(String::new, |(p, n)| format!("{p} / {n}"));
        context! { label => label.as_str(), few => is_few(c, k), counts => counts }
    };
    c.labels.iter().enumerate().map(head).collect()
}

/// One group per approach, one row per method; `cell` fills a label's column or (`None`) the mean's.
fn groups(c: &Comparison, cell: &dyn Fn(&Comparison, &MethodScore, Option<usize>) -> Value) -> Value {
    let row = |m: &MethodScore| {
        let columns = (0..c.labels.len()).map(Some).chain([None]);
        let cells: Value = columns.map(|column| cell(c, m, column)).collect();
        context! { source => m.source.as_str(), cells => cells }
    };
    let group = |approach: &str| {
        let rows: Value = c.methods.iter().filter(|m| m.approach == approach).map(row).collect();
        context! { approach => approach, rows => rows }
    };
    approaches(c).into_iter().map(group).collect()
}

fn auc_cell(c: &Comparison, m: &MethodScore, column: Option<usize>) -> Value {
    let (auc, below) = match column {
        Some(k) => {
            let score = m.labels.get(k);
            let interval = score.and_then(|l| l.interval);
            (score.and_then(|l| l.auc), interval.map_or_else(String::new, |i| range(i, "\u{2013}")))
        }
        None => (m.mean_auc, m.mean_auc_without_few.map_or_else(String::new, |v| format!("*{}", decimal(v)))),
    };
    let text = auc.map_or_else(|| NOT_ESTIMABLE.to_owned(), decimal);
    // Bold only where an interval stands below it, so that nobody reads more into it than is there.
    let bold = column.is_some_and(|k| !below.is_empty() && best_of(c, k).is_some_and(|b| b == text));
    context! { text => text, below => below, bold => bold, missing => auc.is_none() }
}

/// The highest AUC of a label as printed; all rows that print it are equal for the reader.
fn best_of(c: &Comparison, k: usize) -> Option<String> {
    c.methods.iter().filter_map(|m| m.labels.get(k)?.auc).reduce(f64::max).map(decimal)
}

fn spread_cell(_: &Comparison, m: &MethodScore, column: Option<usize>) -> Value {
    let (text, below) = match spread_of(m, column) {
        Some([mean, sd, low, high]) => {
            (format!("{} \u{b1} {}", decimal(mean), decimal(sd)), range([low, high], "\u{2013}"))
        }
        None => (NOT_ESTIMABLE.to_owned(), String::new()),
    };
    let missing = below.is_empty();
    context! { text => text, below => below, bold => false, missing => missing }
}

fn roc(c: &Comparison) -> Value {
    let group = |g: figures::RocGroup| {
        let legend: Value =
            g.legend.into_iter().map(|(name, sample)| context! { name => name, sample => safe(sample) }).collect();
        context! { approach => g.approach, legend => legend, panels => safe_all(g.panels) }
    };
    figures::roc_small_multiples(c).into_iter().map(group).collect()
}

/// Found, used, and into which parts.
fn flow(c: &Comparison) -> Value {
    let refused: usize = c.rejects.iter().map(|(_, n)| n).sum();
    let shown: Value = c
        .rejects
        .iter()
        .take(MAX_REASONS)
        .map(|(reason, n)| context! { reason => reason.as_str(), count => *n })
        .collect();
    let parts: Value = c
        .parts
        .iter()
        .map(|p| context! { part => p.part.as_str(), images => p.images, patients => p.patients })
        .collect();
    context! {
        found => c.images + refused,
        refused => refused,
        reasons => shown,
        more => c.rejects.len().saturating_sub(MAX_REASONS),
        images => c.images,
        patients => c.patients,
        parts => parts,
    }
}

fn networks(c: &Comparison) -> Value {
    let network = |n: &crate::evaluate::NetworkUsed| {
        context! {
            name => n.name.as_str(),
            architecture => n.architecture.as_str(),
            width => n.width,
            weights => n.weights.as_str(),
            seeded => is_seeded(&n.weights),
            licence => n.licence.as_str(),
        }
    };
    c.networks.iter().map(network).collect()
}

fn times(c: &Comparison) -> Value {
    c.seconds.iter().map(|(stage, s)| context! { stage => stage.as_str(), time => duration(*s) }).collect()
}

/// What this study cannot say.
fn limits(c: &Comparison) -> Vec<String> {
    let mut lines = vec![
        "For research only. This is not a medical device, and nothing in it may guide the care of a patient.".to_owned(),
        "One study's images, labels and machines. At another hospital, or on next year's images, numbers may be lower; \
         nothing here was tested there."
            .to_owned(),
        "An AUC says how well images are ranked. It is not a probability, it names no threshold, and it does not say how \
         many patients would be helped."
            .to_owned(),
        "Labels are taken as they were given. Errors in them, and findings that nobody looked for, count as truth.".to_owned(),
    ];
    let few: Vec<String> = (0..c.labels.len())
        .filter(|&k| is_few(c, k))
        .map(|k| format!("{} ({})", c.labels[k], counts(c, k).map_or(0, |(p, _)| p)))
        .collect();
    if !few.is_empty() {
        lines.push(format!(
            "Few positive test images: {}. How far an AUC can be trusted depends on these, not on the number of images.",
            few.join(", ")
        ));
    }
    if test_part(c).is_some_and(|p| p.images > p.patients) {
        lines.push(
            "Intervals count the test images as independent. Several images of one patient are not, so true \
             intervals are somewhat wider."
                .to_owned(),
        );
    }
    if c.methods.len() > 1 {
        lines.push(
            "Intervals belong to one AUC each. They are no test of the difference between two methods, and none is \
             corrected for the number of methods and labels."
                .to_owned(),
        );
    }
    lines
}

/// `0.31 s`, `42 s`, `1 min 18 s`, `2 h 05 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{seconds:.2} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Standard base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
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
    use crate::report::example;

    fn page(c: &Comparison) -> String {
        html(c, &Pictures { contact_sheet_png: Some(vec![0x89, b'P', b'N', b'G']) }).expect("a page")
    }

    #[test]
    fn every_section_is_there() {
        let page = page(&example::comparison());
        for id in ["answer", "results", "roc", "forest", "spread", "cohort", "networks", "settings", "limits", "cite"] {
            assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        }
        for needle in [
            "data:image/png;base64,iVBORw==",
            "no positive image in the test part",
            "n.e.",
            "two patients share a picture",
            "cannot be read as an image",
            "0123456789abcdef",
            "CC BY 4.0",
            "RF 100 trees, depth 10",
            "1 min 18 s",
            "research use only",
            "Over 3 splits",
            "Few positive test images: PNX (6)",
        ] {
            assert!(page.contains(needle), "{needle}");
        }
        assert!(!page.contains("class=\"banner\""));
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&example::comparison());
        for forbidden in ["<script", "<link", "<iframe", "<object", "@import", "url(", " onload", "srcset"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(page.split("src=\"").skip(1).all(|rest| rest.starts_with("data:image/png;base64,")));
        assert!(page.split("href=\"").skip(1).all(|rest| rest.starts_with('#')));
    }

    #[test]
    fn names_are_escaped() {
        let page = page(&example::comparison());
        assert!(page.contains("<th scope=\"col\">&lt;b&gt;"));
        assert!(page.contains("<title>study &amp; &lt;script&gt;: chestnut report</title>"));
    }

    #[test]
    fn the_highest_of_a_label_is_bold_and_a_label_without_interval_never() {
        let c = example::comparison();
        let row = c.methods.iter().filter_map(|m| m.labels[0].auc).fold(0.0, f64::max);
        assert!(page(&c).contains(&format!("<b>{}</b>", decimal(row))));
        assert_eq!(best_of(&c, 3), None);
        assert!(!page(&c).contains("<b>n.e.</b>"));
    }

    #[test]
    fn untrained_networks_and_image_splits_raise_a_banner() {
        let mut c = example::comparison();
        c.networks[0].weights = "seeded (not trained)".to_owned();
        c.unit = "image".to_owned();
        let page = page(&c);
        assert_eq!(page.matches("class=\"banner\"").count(), 2);
        assert!(page.contains("Not trained: densenet121") && page.contains("SPLIT BY IMAGE"));
    }

    #[test]
    fn an_empty_comparison_still_makes_a_page() {
        let mut c = example::comparison();
        (c.methods, c.rejects, c.parts) = (Vec::new(), Vec::new(), Vec::new());
        let page = html(&c, &Pictures::default()).expect("a page");
        assert!(page.contains("No AUC could be estimated") && page.contains("Nothing was refused"));
        assert!(!page.contains("<img"));
    }

    #[test]
    fn base64_of_rfc_4648() {
        let of = |text: &str| base64(text.as_bytes());
        assert_eq!(["", "f", "fo", "foo", "foobar"].map(of), ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYmFy"]);
    }

    #[test]
    fn durations() {
        assert_eq!([0.314, 42.4, 78.4, 7_500.0].map(duration), ["0.31 s", "42 s", "1 min 18 s", "2 h 05 min"]);
    }
}
