//! The labels table: one row per image or study, 0, 1, blank or a known word per label.
//!
//! A value that is none of these refuses its row, with file, row, column and value, because a silent
//! guess would end in a published number. What a blank, -1 or a word means is the label set's to say
//! (protocol 1.1). Which row belongs to which image is decided in `join`; nothing here looks at images.

mod key;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

pub use key::KeyKind;

use super::label_set::{BlankPolicy, DASH, LabelSet, Meaning, PLUS, UncertainPolicy, fold, plain};
use super::stored::quote;
use super::table::{Table, TableRow, parse_table, read_bounded};
use super::view::known_view;
use super::{CohortError, Label};

/// Ages above this are refused as slips of the pen (published tables hold 414).
const MAX_AGE_YEARS: f32 = 130.0;
/// Longest key or patient id in the table, bytes.
const MAX_KEY_BYTES: usize = 4096;

/// Columns named by the user instead of being found by their usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// File name of the image, or another key that [`KeyKind`] knows.
    pub key: Option<String>,
    /// Patient id.
    pub patient: Option<String>,
    /// Projection.
    pub view: Option<String>,
    /// Sex.
    pub sex: Option<String>,
    /// Age in years.
    pub age: Option<String>,
}

/// A usable row.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRow {
    /// Line of the table, the header being line 1.
    pub row: u64,
    /// File name, path or other key ([`LabelTable::key_kind`]) as written.
    pub key: String,
    /// Patient id as written.
    pub patient: Option<String>,
    /// Projection as written.
    pub view: Option<String>,
    /// `M`, `F` or `O`.
    pub sex: Option<char>,
    /// Age in years.
    pub age_years: Option<f32>,
    /// One value per label of the set.
    pub labels: Vec<Label>,
}

/// A row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// Line of the table, the header being line 1.
    pub row: u64,
    /// Key as written; empty if there is none.
    pub key: String,
    /// Why, naming table, row and column.
    pub reason: String,
}

/// The labels table, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelTable {
    /// File name of the table, for messages.
    pub name: String,
    /// Usable rows, in the order of the file.
    pub rows: Vec<LabelRow>,
    /// Other rows, in the order of the file.
    pub refused: Vec<RefusedRow>,
    /// Sentences for the summary.
    pub warnings: Vec<String>,
    /// Whether there is a column of patient ids.
    pub has_patients: bool,
    /// What the keys of the rows are.
    pub key_kind: KeyKind,
}

/// Usual names of the columns, compared without case, spaces and punctuation; earlier ones win.
const PATIENT_NAMES: [&str; 5] = ["patientid", "patient", "subjectid", "patientnumber", "subject"];
const VIEW_NAMES: [&str; 5] = ["view", "viewposition", "projection", "frontallateral", "appa"];
const SEX_NAMES: [&str; 4] = ["sex", "patientsex", "gender", "patientgender"];
const AGE_NAMES: [&str; 4] = ["age", "ageyears", "patientage", "ageinyears"];

/// Where the columns are.
struct Columns {
    key: usize,
    key_kind: KeyKind,
    patient: Option<usize>,
    view: Option<usize>,
    sex: Option<usize>,
    age: Option<usize>,
    labels: Vec<usize>,
}

/// Reads the labels table at `path`.
///
/// # Errors
/// [`CohortError`] if the file is no table, or a column that is needed is missing or not clear.
/// Bad rows are not errors: they are in [`LabelTable::refused`].
pub fn read_labels(path: &Path, set: &LabelSet, names: &ColumnNames) -> Result<LabelTable, CohortError> {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy());
    parse_labels(&name, &read_bounded(path)?, set, names)
}

/// The ready-made label set whose every label is a column of the table at `path`: HUM-CXR-7 or CheXpert-14.
///
/// # Errors
/// [`CohortError`] if the file is no table or fits neither; the message lists its columns and the options.
pub fn guess_label_set(path: &Path) -> Result<LabelSet, CohortError> {
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy());
    let header = parse_table(&name, &read_bounded(path)?)?.header;
    let fits = [LabelSet::hum_cxr(), LabelSet::chexpert()].into_iter().find(|set| set.resolve(&header).is_ok());
    fits.ok_or_else(|| CohortError::NoLabelSet { file: name.into_owned(), columns: header.join(", ") })
}

/// Reads a labels table from its bytes; `name` stands in messages.
///
/// # Errors
/// As [`read_labels`].
pub fn parse_labels(
    name: &str,
    content: &[u8],
    set: &LabelSet,
    names: &ColumnNames,
) -> Result<LabelTable, CohortError> {
    set.check()?;
    let table = parse_table(name, content)?;
    let columns = find_columns(name, &table, set, names)?;
    let values = Values::of(&table, set, &columns);
    let mut result = LabelTable {
        name: name.to_owned(),
        has_patients: columns.patient.is_some(),
        key_kind: columns.key_kind,
        warnings: table.warnings.clone(),
        ..LabelTable::default()
    };
    let mut odd_ages = 0usize;
    let mut odd_sexes = 0usize;
    for row in &table.rows {
        let key = row.cells.get(columns.key).unwrap_or("").trim();
        match read_row(&table, row, &values, &columns) {
            Ok(labels) => {
                let cell = |column: Option<usize>| column.and_then(|c| row.cells.get(c)).unwrap_or("").trim();
                let (age, sex) = (cell(columns.age), cell(columns.sex));
                let (age_years, sex_letter) = (parse_age(age, values.decimal_comma), parse_sex(sex));
                odd_ages += usize::from(age_years.is_none() && known_view(age).is_some());
                odd_sexes += usize::from(sex_letter.is_none() && known_view(sex).is_some());
                result.rows.push(LabelRow {
                    row: row.row,
                    key: key.to_owned(),
                    patient: Some(cell(columns.patient)).filter(|p| !p.is_empty()).map(str::to_owned),
                    view: known_view(cell(columns.view)),
                    sex: sex_letter,
                    age_years,
                    labels,
                });
            }
            Err(problem) => result.refused.push(RefusedRow {
                row: row.row,
                key: key.chars().take(MAX_KEY_BYTES).collect(),
                reason: format!("{name} row {}: {problem}", row.row),
            }),
        }
    }
    if odd_ages > 0 {
        result.warnings.push(format!(
            "{odd_ages} rows of {name} have an age that is not a number of years from 0 to {MAX_AGE_YEARS}; it counts as unknown"
        ));
    }
    if odd_sexes > 0 {
        result
            .warnings
            .push(format!("{odd_sexes} rows of {name} have a sex that is not M, F or O; it counts as unknown"));
    }
    Ok(result)
}

fn find_columns(name: &str, table: &Table, set: &LabelSet, names: &ColumnNames) -> Result<Columns, CohortError> {
    let header = &table.header;
    let error = |problem: String, option: &'static str| CohortError::Column {
        table: name.to_owned(),
        problem,
        columns: header.join(", "),
        option,
    };
    // A named column must be there once; a usual one may be missing.
    let find = |named: &Option<String>, usual: &[&str], option: &'static str| match named {
        Some(wanted) => {
            let exact: Vec<usize> = (0..header.len()).filter(|&c| header[c] == wanted.trim()).collect();
            let hits: Vec<usize> = if exact.is_empty() {
                (0..header.len()).filter(|&c| plain(&header[c]) == plain(wanted)).collect()
            } else {
                exact
            };
            match hits[..] {
                [one] => Ok(Some(one)),
                [] => Err(error(format!("no column {wanted:?}"), option)),
                _ => Err(error(format!("more than one column {wanted:?}"), option)),
            }
        }
        None => Ok(usual.iter().find_map(|u| (0..header.len()).find(|&c| plain(&header[c]) == *u))),
    };
    let (key, key_kind) = match find(&names.key, &[], "--key COLUMN")? {
        Some(key) => {
            let cells = table.rows.iter().filter_map(|row| row.cells.get(key));
            (key, KeyKind::of_column(&header[key], cells))
        }
        None => KeyKind::find(header).ok_or_else(|| {
            let problem = "no column names the image (file name, accession number, StudyInstanceUID, SOPInstanceUID or patient id)";
            error(problem.to_owned(), "--key COLUMN")
        })?,
    };
    let patient = find(&names.patient, &PATIENT_NAMES, "--patient COLUMN")?;
    Ok(Columns {
        key,
        key_kind,
        patient: patient.or((key_kind == KeyKind::PatientId).then_some(key)),
        view: find(&names.view, &VIEW_NAMES, "--view-column COLUMN")?,
        sex: find(&names.sex, &SEX_NAMES, "--sex COLUMN")?,
        age: find(&names.age, &AGE_NAMES, "--age COLUMN")?,
        labels: set.resolve(header)?,
    })
}

/// The labels of a row, or why the row is refused.
fn read_row(table: &Table, row: &TableRow, values: &Values<'_>, columns: &Columns) -> Result<Vec<Label>, String> {
    if let Some(fault) = &row.fault {
        return Err(fault.clone());
    }
    let text = |column: usize| row.cells.get(column).unwrap_or("").trim();
    let (key, kind) = (text(columns.key), columns.key_kind.describe());
    if key.is_empty() {
        return Err(format!("no {kind} in column {}", table.header[columns.key]));
    }
    let patient = columns.patient.map_or("", text);
    if key.len().max(patient.len()) > MAX_KEY_BYTES {
        return Err(format!("a {kind} or patient id is longer than {MAX_KEY_BYTES} bytes"));
    }
    let mut labels = Vec::with_capacity(values.set.labels.len());
    for (label, &column) in values.set.labels.iter().zip(&columns.labels) {
        let value = values.label(text(column), values.set.blank_policy(label));
        labels.push(value.map_err(|why| format!("column {}: {why}", table.header[column]))?);
    }
    Ok(labels)
}

/// What the cells of one table mean.
struct Values<'a> {
    set: &'a LabelSet,
    words: BTreeMap<String, Meaning>,
    /// `1,0` is a number. Not where commas stand between the cells: a quoted one may be anything.
    decimal_comma: bool,
}

impl<'a> Values<'a> {
    fn of(table: &Table, set: &'a LabelSet, columns: &Columns) -> Self {
        // A dash is the opposite of a plus only where there are pluses; alone it may mean "not read".
        let is_plus =
            |row: &TableRow| columns.labels.iter().any(|&c| row.cells.get(c).is_some_and(|t| t.trim() == PLUS));
        let words = set.values.meanings(table.rows.iter().any(is_plus));
        Self { set, words, decimal_comma: table.delimiter != b',' }
    }

    fn label(&self, text: &str, blank: BlankPolicy) -> Result<Label, String> {
        if text.is_empty() {
            return match blank {
                BlankPolicy::Unknown => Ok(Label::Unknown),
                BlankPolicy::Negative => Ok(Label::Negative),
                BlankPolicy::Exclude => Err("it is blank, and the label set refuses such rows".to_owned()),
            };
        }
        let meaning = self.words.get(&fold(text)).copied().or_else(|| self.number(text));
        match (meaning, self.set.uncertain) {
            (Some(Meaning::Positive), _) | (Some(Meaning::Uncertain), UncertainPolicy::Positive) => Ok(Label::Positive),
            (Some(Meaning::Negative), _) | (Some(Meaning::Uncertain), UncertainPolicy::Negative) => Ok(Label::Negative),
            (Some(Meaning::Unknown), _) | (Some(Meaning::Uncertain), UncertainPolicy::Unknown) => Ok(Label::Unknown),
            (Some(Meaning::Uncertain), UncertainPolicy::Refuse) => Err(format!(
                "the value {} (uncertain) needs a policy: set uncertain = \"unknown\" in the label set",
                quote(text)
            )),
            (None, _) if fold(text) == DASH && self.set.values.standard => Err(
                "a dash is neither 0, 1 nor blank: it may mean absent or not read; say which under [values] of a --label-set FILE.toml, negative = [\"-\"] or unknown = [\"-\"]"
                    .to_owned(),
            ),
            (None, _) => Err(format!(
                "the value {} is neither 0, 1 nor blank nor a known word; correct it, leave it blank, or say what it means under [values] of a --label-set FILE.toml",
                quote(text)
            )),
        }
    }

    /// 1, 0 or -1, in any spelling of the number.
    fn number(&self, text: &str) -> Option<Meaning> {
        let number = decimal(text, self.decimal_comma).parse::<f64>().ok()?;
        if number == 0.0 {
            Some(Meaning::Negative)
        } else if number == 1.0 {
            Some(Meaning::Positive)
        } else if number == -1.0 {
            Some(Meaning::Uncertain)
        } else {
            None
        }
    }
}

/// A number with its one decimal comma as a point, where commas may be decimal.
fn decimal(text: &str, decimal_comma: bool) -> Cow<'_, str> {
    let is_decimal = decimal_comma && text.matches(',').count() == 1 && !text.contains('.');
    if is_decimal { Cow::Owned(text.replace(',', ".")) } else { Cow::Borrowed(text) }
}

/// Years from `77`, `34.0`, `63,5` or DICOM's `058Y`, `011M`, `003W`, `020D`; `None` if blank or absurd.
fn parse_age(text: &str, decimal_comma: bool) -> Option<f32> {
    let (digits, years) = match text.char_indices().next_back()? {
        (at, 'Y' | 'y') => (&text[..at], 1.0),
        (at, 'M' | 'm') => (&text[..at], 1.0 / 12.0),
        (at, 'W' | 'w') => (&text[..at], 7.0 / 365.25),
        (at, 'D' | 'd') => (&text[..at], 1.0 / 365.25),
        _ => (text, 1.0),
    };
    let age = decimal(digits, decimal_comma).parse::<f32>().ok()? * years;
    (0.0..=MAX_AGE_YEARS).contains(&age).then_some(age)
}

/// `M`, `F` or `O` from a letter or a word; `None` otherwise.
fn parse_sex(text: &str) -> Option<char> {
    match plain(&fold(text)).as_str() {
        "m" | "male" | "man" | "maschio" | "uomo" | "mannlich" | "mann" | "homme" | "hombre" | "masculino" => Some('M'),
        "f" | "female" | "woman" | "femmina" | "donna" | "weiblich" | "w" | "frau" | "femme" | "mujer" | "femenino" => {
            Some('F')
        }
        "o" | "other" | "d" | "divers" => Some('O'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
