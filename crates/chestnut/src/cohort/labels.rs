//! The labels table: one row per image, 0, 1 or blank per label.
//!
//! A value that is none of these refuses its row, with file, row, column and value, because a silent
//! guess would end in a published number. What a blank or -1 means is the label set's to say
//! (protocol 1.1). Which row belongs to which image is decided in `join`; nothing here looks at images.

use std::path::Path;

use super::label_set::{BlankPolicy, LabelSet, UncertainPolicy, plain};
use super::stored::quote;
use super::table::{Table, TableRow, parse_table, read_bounded};
use super::view::known_view;
use super::{CohortError, Label};

/// Ages above this are refused as slips of the pen (published tables hold 414).
const MAX_AGE_YEARS: f32 = 130.0;
/// Longest file name or patient id in the table, bytes.
const MAX_KEY_BYTES: usize = 4096;

/// Columns named by the user instead of being found by their usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    /// File name of the image.
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
    /// File name or path as written.
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
    /// File name or path as written; empty if there is none.
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
}

/// Usual names of the columns, compared without case, spaces and punctuation; earlier ones win.
const KEY_NAMES: [&str; 9] =
    ["image", "imageindex", "imageid", "filename", "file", "path", "imagepath", "imagefile", "imagename"];
const PATIENT_NAMES: [&str; 5] = ["patientid", "patient", "subjectid", "patientnumber", "subject"];
const VIEW_NAMES: [&str; 5] = ["view", "viewposition", "projection", "frontallateral", "appa"];
const SEX_NAMES: [&str; 4] = ["sex", "patientsex", "gender", "patientgender"];
const AGE_NAMES: [&str; 4] = ["age", "ageyears", "patientage", "ageinyears"];

/// Where the columns are.
struct Columns {
    key: usize,
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
    let mut result =
        LabelTable { name: name.to_owned(), has_patients: columns.patient.is_some(), ..LabelTable::default() };
    let mut odd_ages = 0usize;
    let mut odd_sexes = 0usize;
    for row in &table.rows {
        let key = row.cells.get(columns.key).unwrap_or("").trim();
        match read_row(&table, row, set, &columns) {
            Ok(labels) => {
                let cell = |column: Option<usize>| column.and_then(|c| row.cells.get(c)).unwrap_or("").trim();
                let (age, sex) = (cell(columns.age), cell(columns.sex));
                let (age_years, sex_letter) = (parse_age(age), parse_sex(sex));
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
    let key = find(&names.key, &KEY_NAMES, "--key COLUMN")?
        .ok_or_else(|| error("no column holds the file name of the image".to_owned(), "--key COLUMN"))?;
    Ok(Columns {
        key,
        patient: find(&names.patient, &PATIENT_NAMES, "--patient COLUMN")?,
        view: find(&names.view, &VIEW_NAMES, "--view-column COLUMN")?,
        sex: find(&names.sex, &SEX_NAMES, "--sex COLUMN")?,
        age: find(&names.age, &AGE_NAMES, "--age COLUMN")?,
        labels: set.resolve(header)?,
    })
}

/// The labels of a row, or why the row is refused.
fn read_row(table: &Table, row: &TableRow, set: &LabelSet, columns: &Columns) -> Result<Vec<Label>, String> {
    if let Some(fault) = &row.fault {
        return Err(fault.clone());
    }
    let text = |column: usize| row.cells.get(column).unwrap_or("").trim();
    let key = text(columns.key);
    if key.is_empty() {
        return Err(format!("no file name in column {}", table.header[columns.key]));
    }
    let patient = columns.patient.map_or("", text);
    if key.len().max(patient.len()) > MAX_KEY_BYTES {
        return Err(format!("a file name or patient id is longer than {MAX_KEY_BYTES} bytes"));
    }
    let mut labels = Vec::with_capacity(set.labels.len());
    for (label, &column) in set.labels.iter().zip(&columns.labels) {
        let value = parse_label(text(column), set.blank_policy(label), set.uncertain);
        labels.push(value.map_err(|why| format!("column {}: {why}", table.header[column]))?);
    }
    Ok(labels)
}

fn parse_label(text: &str, blank: BlankPolicy, uncertain: UncertainPolicy) -> Result<Label, String> {
    if text.is_empty() {
        return match blank {
            BlankPolicy::Unknown => Ok(Label::Unknown),
            BlankPolicy::Negative => Ok(Label::Negative),
            BlankPolicy::Exclude => Err("it is blank, and the label set refuses such rows".to_owned()),
        };
    }
    let number = text.parse::<f64>().unwrap_or(f64::NAN);
    if number == 0.0 {
        Ok(Label::Negative)
    } else if number == 1.0 {
        Ok(Label::Positive)
    } else if number == -1.0 {
        match uncertain {
            UncertainPolicy::Unknown => Ok(Label::Unknown),
            UncertainPolicy::Negative => Ok(Label::Negative),
            UncertainPolicy::Positive => Ok(Label::Positive),
            UncertainPolicy::Refuse => {
                Err("the value -1 (uncertain) needs a policy: set uncertain = \"unknown\" in the label set".to_owned())
            }
        }
    } else {
        Err(format!("the value {} is neither 0, 1 nor blank; correct it or leave it blank", quote(text)))
    }
}

/// Years from `77`, `34.0` or DICOM's `058Y`, `011M`, `003W`, `020D`; `None` if blank or absurd.
fn parse_age(text: &str) -> Option<f32> {
    let (digits, years) = match text.char_indices().next_back()? {
        (at, 'Y' | 'y') => (&text[..at], 1.0),
        (at, 'M' | 'm') => (&text[..at], 1.0 / 12.0),
        (at, 'W' | 'w') => (&text[..at], 7.0 / 365.25),
        (at, 'D' | 'd') => (&text[..at], 1.0 / 365.25),
        _ => (text, 1.0),
    };
    let age = digits.parse::<f32>().ok()? * years;
    (0.0..=MAX_AGE_YEARS).contains(&age).then_some(age)
}

/// `M`, `F` or `O` from a letter or an English word; `None` otherwise.
fn parse_sex(text: &str) -> Option<char> {
    match plain(text).as_str() {
        "m" | "male" | "man" => Some('M'),
        "f" | "female" | "woman" => Some('F'),
        "o" | "other" => Some('O'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, set: &LabelSet) -> Result<LabelTable, CohortError> {
        parse_labels("labels.csv", text.as_bytes(), set, &ColumnNames::default())
    }

    #[test]
    fn a_usual_table() {
        let text = "Image Index;Patient ID;View Position;Patient Age;Patient Gender;No_Finding;PNX\n\
                    a.png; 7 ;AP Supine;058Y;male;1;0.0\n\
                    b.png;;;;;0; \n";
        let table = parse(text, &LabelSet::new("s", &["PNX", "No Finding"])).expect("a table");
        assert!(table.has_patients && table.refused.is_empty() && table.warnings.is_empty());
        let first = &table.rows[0];
        assert_eq!((first.row, first.key.as_str(), first.patient.as_deref()), (2, "a.png", Some("7")));
        assert_eq!((first.view.as_deref(), first.sex, first.age_years), (Some("AP Supine"), Some('M'), Some(58.0)));
        assert_eq!(first.labels, [Label::Negative, Label::Positive]);
        let second = &table.rows[1];
        assert_eq!((second.patient.as_deref(), second.view.as_deref(), second.sex), (None, None, None));
        assert_eq!(second.labels, [Label::Unknown, Label::Negative], "a blank is unknown, not negative");
    }

    #[test]
    fn a_bad_value_refuses_its_row_only_and_is_named() {
        let set = LabelSet::new("s", &["PNX"]);
        let table = parse("file,PNX\na,1\nb,2\nc,yes\nd,nan\n,1\ne,-1\nf,0\n", &set).expect("a table");
        assert_eq!(table.rows.iter().map(|r| r.key.as_str()).collect::<Vec<_>>(), ["a", "f"]);
        let rows: Vec<u64> = table.refused.iter().map(|r| r.row).collect();
        assert_eq!(rows, [3, 4, 5, 6, 7]);
        let reason = &table.refused[0].reason;
        assert!(["labels.csv row 3", "column PNX", "\"2\""].iter().all(|part| reason.contains(part)), "{reason}");
        assert!(!table.has_patients);
    }

    #[test]
    fn blank_and_uncertain_follow_the_policy() {
        let mut set = LabelSet::new("s", &["A", "B"]);
        set.blank = BlankPolicy::Negative;
        set.blank_for.insert("B".to_owned(), BlankPolicy::Exclude);
        set.uncertain = UncertainPolicy::Positive;
        let table = parse("image,A,B\nx,,-1.0\ny,1,\n", &set).expect("a table");
        assert_eq!(table.rows.len(), 1);
        assert_eq!(table.rows[0].labels, [Label::Negative, Label::Positive]);
        assert!(table.refused[0].reason.contains("column B"));
    }

    #[test]
    fn columns_that_are_missing_or_named() {
        let set = LabelSet::new("s", &["A"]);
        let error = parse("picture,A\nx,1\n", &set).expect_err("no key column");
        assert!(error.to_string().contains("--key") && error.to_string().contains("picture"), "{error}");
        let names = ColumnNames { key: Some("Picture".to_owned()), ..ColumnNames::default() };
        let table = parse_labels("t", b"picture,A\nx,1\n", &set, &names).expect("named");
        assert_eq!(table.rows[0].key, "x");
        let error = parse("image,B\nx,1\n", &set).expect_err("no label column");
        assert!(error.to_string().contains("\"A\""), "{error}");
    }

    #[test]
    fn odd_ages_and_sexes_are_unknown_and_counted() {
        let set = LabelSet::new("s", &["A"]);
        let table = parse("image,age,sex,A\nx,414,?!x,1\ny,-3,F,1\nz,006M,,1\n", &set).expect("a table");
        assert_eq!(table.rows.iter().map(|r| r.age_years).collect::<Vec<_>>(), [None, None, Some(0.5)]);
        assert_eq!(table.warnings.len(), 2, "{:?}", table.warnings);
    }
}
