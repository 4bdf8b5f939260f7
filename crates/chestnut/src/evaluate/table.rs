//! Results tables as text: for a terminal, as CSV, and as Markdown.
//!
//! All of them show what [`Comparison`] holds and compute nothing: AUC with interval below or beside it, positives of
//! every label, the mean, and the spread over repeated splits (layout of Tables 5 to 7 of Gozzi et al. 2022: labels as
//! columns). What is not estimable is `n.e.` with its reason; a table of an image-level split says so.

use super::{Comparison, FEW_POSITIVES, MethodScore, PartCount, Repeated, Spread};

/// Greatest width of a terminal table in characters.
pub const WIDTH: usize = 100;
/// Longer label names are shortened in the terminal and spelled out below the table.
const LABEL_WIDTH: usize = 12;
/// Longer method names are shortened in the terminal.
const SOURCE_WIDTH: usize = 26;
/// Not estimable.
pub(crate) const NOT_ESTIMABLE: &str = "n.e.";

/// Two decimals as the paper prints an AUC: `.85`, `1.00`.
pub(crate) fn decimal(value: f64) -> String {
    let text = format!("{value:.2}");
    match text.strip_prefix('0') {
        Some(short) => short.to_owned(),
        None => text,
    }
}

/// `.79-.90`, with a dash of the caller's choice.
pub(crate) fn range(bounds: [f64; 2], dash: &str) -> String {
    format!("{}{dash}{}", decimal(bounds[0]), decimal(bounds[1]))
}

/// Mean and standard deviation with `sign` between them: `.90±.02`, or `.90±n.e.` of a single value.
pub(crate) fn mean_and_sd(r: &Repeated, sign: &str) -> String {
    format!("{}{sign}{}", decimal(r.mean), r.sd.map_or_else(|| NOT_ESTIMABLE.to_owned(), decimal))
}

/// The approaches in the order of their first row.
pub(crate) fn approaches(c: &Comparison) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for m in &c.methods {
        if !names.contains(&m.approach.as_str()) {
            names.push(&m.approach);
        }
    }
    names
}

/// (positive, known) test images of label `k`: the same for all methods, since they share one test part.
pub(crate) fn counts(c: &Comparison, k: usize) -> Option<(usize, usize)> {
    c.methods.iter().find_map(|m| m.labels.get(k)).map(|l| (l.positives, l.positives + l.negatives))
}

/// Whether label `k` has fewer than [`FEW_POSITIVES`] test positives.
pub(crate) fn is_few(c: &Comparison, k: usize) -> bool {
    counts(c, k).is_some_and(|(positives, _)| positives < FEW_POSITIVES)
}

/// The labels with few positives and how many these have: `PNX (4)`.
pub(crate) fn few_labels(c: &Comparison) -> Vec<String> {
    let few = (0..c.labels.len()).filter(|&k| is_few(c, k));
    few.map(|k| format!("{} ({})", c.labels[k], counts(c, k).map_or(0, |(p, _)| p))).collect()
}

/// The part that every number is about.
pub(crate) fn test_part(c: &Comparison) -> Option<&PartCount> {
    c.parts.iter().find(|p| p.part == "test")
}

/// Splits of the spread, if there were several.
pub(crate) fn repeats(c: &Comparison) -> Option<usize> {
    c.methods.iter().find_map(|m| m.spread.as_ref()).map(|s| s.repeats)
}

/// Whether images, not patients, were split; such tables must say so.
pub(crate) fn is_split_by_image(c: &Comparison) -> bool {
    c.unit == "image"
}

/// What an image-level split does to the numbers.
pub(crate) const SPLIT_BY_IMAGE: &str = "SPLIT BY IMAGE: images of one patient may be in the training and in the test \
     part, so these AUCs are higher than new patients would give.";

/// What every form of the table says first.
pub(crate) fn marks(c: &Comparison) -> Vec<String> {
    if c.marks.is_empty() && is_split_by_image(c) {
        return vec![SPLIT_BY_IMAGE.to_owned()];
    }
    c.marks.clone()
}

/// Marks and footnotes, for a form of the table that has one place for both.
pub(crate) fn notes(c: &Comparison) -> Vec<String> {
    let mut notes = marks(c);
    notes.extend(footnotes(c));
    notes
}

/// Footnotes that belong to every form of the table.
pub(crate) fn footnotes(c: &Comparison) -> Vec<String> {
    let mut notes = Vec::new();
    if (0..c.labels.len()).any(|k| is_few(c, k)) {
        notes.push(format!(
            "* fewer than {FEW_POSITIVES} positive test images: too few to tell methods apart. A mean marked * leaves \
             these labels out."
        ));
    }
    notes.extend(reasons(c));
    notes
}

/// Why there is no AUC or no interval, once per label and reason.
fn reasons(c: &Comparison) -> Vec<String> {
    let mut lines = Vec::new();
    for (k, label) in c.labels.iter().enumerate() {
        let mut found: Vec<(&str, usize)> = Vec::new();
        for reason in c.methods.iter().filter_map(|m| m.labels.get(k)?.reason.as_deref()) {
            match found.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, count)) => *count += 1,
                None => found.push((reason, 1)),
            }
        }
        for (reason, count) in found {
            let rows = if count == c.methods.len() {
                String::new()
            } else {
                format!(" (in {count} of {} rows)", c.methods.len())
            };
            lines.push(format!("{NOT_ESTIMABLE} {label}{rows}: {reason}"));
        }
    }
    lines
}

/// Breaks text into lines of at most `width` characters where there are spaces to break at.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if count(line) + 1 + count(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Shortens to `width` characters, the last of them an ellipsis.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if count(text) <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

fn count(text: &str) -> usize {
    text.chars().count()
}

/// Plain text of at most [`WIDTH`] columns: AUCs with their intervals, and the spread over splits if there were several.
#[must_use]
pub fn terminal(c: &Comparison) -> String {
    let part = test_part(c).map_or_else(String::new, |p| format!(": {} images of {} patients", p.images, p.patients));
    let own = c.methods.iter().find_map(|m| m.tested_on.clone());
    let on = own.unwrap_or_else(|| format!("the test part{part}, split by {}", c.unit));
    let means = if c.methods.iter().any(|m| mean_interval(c, m).is_some()) {
        "DeLong, by patient; of means, from resampled patients"
    } else {
        "DeLong, by patient"
    };
    let title = format!("AUC on {on}, seed {}. Below each AUC its 95 % interval ({means}).", c.seed);
    let mut lines: Vec<String> = marks(c).iter().flat_map(|mark| wrap(mark, WIDTH)).collect();
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.extend(wrap(&title, WIDTH));
    lines.push(String::new());
    lines.extend(layout(c, true, &|m, column| auc_cell(c, m, column)));
    if let Some(n) = repeats(c) {
        let title = format!(
            "Over {n} splits: mean\u{b1}standard deviation of the AUC; below it smallest-largest, and how many splits \
             could estimate it if not all."
        );
        lines.push(String::new());
        lines.extend(wrap(&title, WIDTH));
        lines.push(String::new());
        lines.extend(layout(c, false, &spread_cell));
    }
    let shortened = (0..c.labels.len()).filter(|&k| heading(c, k) != full_heading(c, k));
    let shortened: Vec<String> = shortened.map(|k| format!("{} = {}", heading(c, k), c.labels[k])).collect();
    let mut notes = footnotes(c);
    notes.extend(spread_notes(c));
    if !shortened.is_empty() {
        notes.push(shortened.join("; "));
    }
    if !notes.is_empty() {
        lines.push(String::new());
    }
    lines.extend(notes.iter().flat_map(|n| wrap(n, WIDTH)));
    lines.push(String::new());
    lines.join("\n")
}

fn full_heading(c: &Comparison, k: usize) -> String {
    format!("{}{}", c.labels[k], if is_few(c, k) { "*" } else { "" })
}

fn heading(c: &Comparison, k: usize) -> String {
    let star = if is_few(c, k) { "*" } else { "" };
    format!("{}{star}", clip(&c.labels[k], LABEL_WIDTH - star.len()))
}

/// 95 % interval of a row's mean AUC, from resampling patients; `None` if `compare --quick` left it out.
fn mean_interval(c: &Comparison, m: &MethodScore) -> Option<[f64; 2]> {
    c.details.iter().find(|d| d.approach == m.approach && d.source == m.source)?.mean_bootstrap
}

/// AUC and interval of a label, or (`None`) of the mean, and the mean without labels of few positives.
fn auc_cell(c: &Comparison, m: &MethodScore, column: Option<usize>) -> [String; 2] {
    let or_ne = |v: Option<f64>| v.map_or_else(|| NOT_ESTIMABLE.to_owned(), decimal);
    let Some(k) = column else {
        let interval = mean_interval(c, m).map(|i| range(i, "-"));
        let without = m.mean_auc_without_few.map(|v| format!("*{}", decimal(v)));
        let below: Vec<String> = interval.into_iter().chain(without).collect();
        return [or_ne(m.mean_auc), below.join(" ")];
    };
    let Some(l) = m.labels.get(k) else { return [NOT_ESTIMABLE.to_owned(), String::new()] };
    let below = match (l.auc, l.interval) {
        (_, Some(i)) => range(i, "-"),
        (Some(_), None) => NOT_ESTIMABLE.to_owned(),
        (None, None) => String::new(),
    };
    [or_ne(l.auc), below]
}

/// Mean, standard deviation and range over splits of a label, or (`None`) of the mean AUC.
fn spread_cell(m: &MethodScore, column: Option<usize>) -> [String; 2] {
    match spread_of(m, column) {
        Some(r) => [mean_and_sd(&r, "\u{b1}"), spread_range(m, &r, "-")],
        None => [NOT_ESTIMABLE.to_owned(), String::new()],
    }
}

/// Smallest and largest AUC over splits, and in how many of them there was one if not in all: `.85-.95, 7 of 20`.
pub(crate) fn spread_range(m: &MethodScore, r: &Repeated, dash: &str) -> String {
    let range = range([r.min, r.max], dash);
    match &m.spread {
        Some(s) if r.n < s.repeats => format!("{range}, {} of {}", r.n, s.repeats),
        _ => range,
    }
}

/// Which labels the means over splits leave out, once per set of labels.
pub(crate) fn spread_notes(c: &Comparison) -> Vec<String> {
    let spreads: Vec<&Spread> = c.methods.iter().filter_map(|m| m.spread.as_ref()).collect();
    let mut found: Vec<(&[String], usize)> = Vec::new();
    for left_out in spreads.iter().map(|s| s.left_out.as_slice()).filter(|labels| !labels.is_empty()) {
        match found.iter_mut().find(|(labels, _)| *labels == left_out) {
            Some((_, count)) => *count += 1,
            None => found.push((left_out, 1)),
        }
    }
    let note = |(labels, count): (&[String], usize)| {
        let rows =
            if count == spreads.len() { String::new() } else { format!(" (in {count} of {} rows)", spreads.len()) };
        format!("The mean over splits{rows} is without {}, which not every split could estimate.", labels.join(", "))
    };
    found.into_iter().map(note).collect()
}

/// AUC of a label over splits, or (`None`) of the mean AUC.
pub(crate) fn spread_of(m: &MethodScore, column: Option<usize>) -> Option<Repeated> {
    let spread = m.spread.as_ref()?;
    match column {
        Some(k) => spread.labels.get(k).copied().flatten(),
        None => spread.mean,
    }
}

/// Rows of two lines per method under a line per approach; labels that do not fit go into further blocks.
fn layout(
    c: &Comparison,
    with_positives: bool,
    cell: &dyn Fn(&MethodScore, Option<usize>) -> [String; 2],
) -> Vec<String> {
    let head = |column: Option<usize>| column.map_or_else(|| "Mean".to_owned(), |k| heading(c, k));
    let positives = |column: Option<usize>| match column.and_then(|k| counts(c, k)) {
        Some((positive, known)) => format!("{positive}/{known}"),
        None => String::new(),
    };
    let width = |column: Option<usize>| -> usize {
        let cells = c.methods.iter().flat_map(|m| cell(m, column));
        let all = cells.chain([head(column), positives(column)]);
        2 + all.map(|text| count(&text)).max().unwrap_or(0)
    };
    let first = 2 + c.methods.iter().map(|m| count(&m.source)).max().unwrap_or(0).clamp(14, SOURCE_WIDTH - 2);

    let mut blocks: Vec<Vec<Option<usize>>> = vec![Vec::new()];
    let mut used = first;
    for column in (0..c.labels.len()).map(Some).chain([None]) {
        if used + width(column) > WIDTH && used > first {
            blocks.push(Vec::new());
            used = first;
        }
        used += width(column);
        if let Some(block) = blocks.last_mut() {
            block.push(column);
        }
    }

    let row = |name: &str, block: &[Option<usize>], text: &dyn Fn(Option<usize>) -> String| -> String {
        let mut line = format!("{:<first$}", clip(name, first));
        for &column in block {
            line.push_str(&format!("{:>1$}", text(column), width(column)));
        }
        line.trim_end().to_owned()
    };
    let mut lines = Vec::new();
    for (i, block) in blocks.iter().enumerate() {
        if i > 0 {
            lines.push(String::new());
        }
        lines.push(row("", block, &head));
        if with_positives {
            lines.push(row("positive/known", block, &positives));
        }
        for approach in approaches(c) {
            lines.push(clip(approach, WIDTH));
            for m in c.methods.iter().filter(|m| m.approach == approach) {
                lines.push(row(&format!("  {}", m.source), block, &|column| cell(m, column)[0].clone()));
                let below = row("", block, &|column| cell(m, column)[1].clone());
                if !below.is_empty() {
                    lines.push(below);
                }
            }
        }
    }
    lines
}

/// One row per method and label, then `mean` and, where labels with few positives are left out, `mean_without_few`:
/// `approach,source,label,positives,negatives,unknown,auc,low,high,reason,marks,unit`. Numbers at full precision; blank
/// is not estimable. `marks` says how the table was made if not by the study's rules.
#[must_use]
pub fn csv(c: &Comparison) -> String {
    let header = [
        "approach",
        "source",
        "label",
        "positives",
        "negatives",
        "unknown",
        "auc",
        "low",
        "high",
        "reason",
        "marks",
        "unit",
    ];
    let marks = marks(c).join(" ");
    let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for m in &c.methods {
        for l in &m.labels {
            rows.push(vec![
                m.approach.clone(),
                m.source.clone(),
                l.label.clone(),
                l.positives.to_string(),
                l.negatives.to_string(),
                l.unknown.to_string(),
                number(l.auc),
                number(l.interval.map(|i| i[0])),
                number(l.interval.map(|i| i[1])),
                l.reason.clone().unwrap_or_default(),
                marks.clone(),
                c.unit.clone(),
            ]);
        }
        let without = m.mean_auc_without_few.map(|v| ("mean_without_few", Some(v)));
        for (name, value) in [("mean", m.mean_auc)].into_iter().chain(without) {
            let mut row = vec![m.approach.clone(), m.source.clone(), name.to_owned()];
            row.extend([String::new(), String::new(), String::new(), number(value)]);
            let interval = mean_interval(c, m).filter(|_| name == "mean");
            row.extend([number(interval.map(|i| i[0])), number(interval.map(|i| i[1]))]);
            row.extend([String::new(), marks.clone(), c.unit.clone()]);
            rows.push(row);
        }
    }
    crate::cohort::table::to_csv(rows)
}

/// `approach,source,label,repeats,n,mean,sd,min,max,left_out,marks,unit`, one row per method and label and one for the
/// `mean`; only the header if there was one split. `n` counts the splits that could estimate it, and below two of them
/// `sd` is blank; `left_out` names the labels that a mean is without.
#[must_use]
pub fn spread_csv(c: &Comparison) -> String {
    let header =
        ["approach", "source", "label", "repeats", "n", "mean", "sd", "min", "max", "left_out", "marks", "unit"];
    let marks = marks(c).join(" ");
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for m in &c.methods {
        let Some(spread) = &m.spread else { continue };
        for column in (0..c.labels.len()).map(Some).chain([None]) {
            let label = column.map_or("mean", |k| c.labels[k].as_str());
            let mut row = vec![m.approach.clone(), m.source.clone(), label.to_owned(), spread.repeats.to_string()];
            match spread_of(m, column) {
                Some(Repeated { n, mean, sd, min, max }) => {
                    let sd = sd.map_or_else(String::new, |v| v.to_string());
                    row.extend([n.to_string(), mean.to_string(), sd, min.to_string(), max.to_string()]);
                }
                None => row.extend(["0", "", "", "", ""].map(str::to_owned)),
            }
            let left_out = if column.is_none() { spread.left_out.join("; ") } else { String::new() };
            row.extend([left_out, marks.clone(), c.unit.clone()]);
            rows.push(row);
        }
    }
    crate::cohort::table::to_csv(rows)
}

/// A table for a README: marks first, AUC with its interval in brackets, the footnotes as a list below.
#[must_use]
pub fn markdown(c: &Comparison) -> String {
    let safe =
        |text: &str| text.replace(['\n', '\r'], " ").replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*");
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut head = vec!["Approach".to_owned(), "Source".to_owned()];
    head.extend((0..c.labels.len()).map(|k| safe(&full_heading(c, k))));
    head.push("Mean".to_owned());
    let rule: Vec<String> = (0..head.len()).map(|i| if i < 2 { "---" } else { "---:" }.to_owned()).collect();
    let mut positives = vec![String::new(), "positive / known".to_owned()];
    positives.extend((0..c.labels.len()).map(|k| counts(c, k).map_or_else(String::new, |(p, n)| format!("{p} / {n}"))));
    positives.push(String::new());
    rows.extend([head, rule, positives]);
    for m in &c.methods {
        let mut row = vec![safe(&m.approach), safe(&m.source)];
        for k in 0..c.labels.len() {
            let [auc, _] = auc_cell(c, m, Some(k));
            let interval = m.labels.get(k).and_then(|l| l.interval);
            row.push(interval.map_or_else(|| auc.clone(), |i| format!("{auc} ({})", range(i, "\u{2013}"))));
        }
        let [mean, below] = auc_cell(c, m, None);
        row.push(if below.is_empty() { mean } else { format!("{mean} ({})", safe(&below.replace('-', "\u{2013}"))) });
        rows.push(row);
    }
    let mut text: String = marks(c).iter().map(|mark| format!("**{}**\n\n", safe(mark))).collect();
    rows.iter().for_each(|r| text.push_str(&format!("| {} |\n", r.join(" | "))));
    let notes = footnotes(c);
    if !notes.is_empty() {
        text.push('\n');
    }
    notes.iter().for_each(|n| text.push_str(&format!("- {}\n", safe(n))));
    text
}

#[cfg(test)]
mod tests;
