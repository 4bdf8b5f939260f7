//! The plan of an export: patients, studies, and what each file is, without a pixel.
//!
//! Shares are set below. One file in a hundred is broken, exactly; every other number is a draw. Copies are of films
//! that are used, since nothing is said about copies of what is refused anyway.

use chestnut_stats::random::Stream;

use super::HospitalConfig;
use super::files::Film;
use crate::image::dicom::WriteSyntax;

/// One file of so many is broken, and which of them.
const BROKEN_EVERY: usize = 100;
const BROKEN_AT: usize = 37;
/// Shares of the studies whose main film is no frontal chest film of the table.
const OTHER_PART: f64 = 0.05;
const OTHER_MODALITY: f64 = 0.01;
const CAPTURE: f64 = 0.01;
const FRAMES: f64 = 0.005;
const NO_ACCESSION: f64 = 0.005;
/// Shares of the studies with a further file.
const LATERAL: f64 = 0.12;
const SECOND_FRONTAL: f64 = 0.03;
const SAME_FILE: f64 = 0.03;
const SAME_FILM: f64 = 0.015;
/// Share of the studies of a patient who was there before.
const COMES_BACK: f64 = 0.2;
/// Shares of the studies without a row, and with a row that cannot be read.
const NO_ROW: f64 = 0.01;
const BAD_ROW: f64 = 0.005;
/// Share of the films stored with dense tissue dark.
const MONOCHROME1: f64 = 0.3;
/// One row of the table for so many studies has no image.
const ROWS_WITHOUT_IMAGE: usize = 150;
/// Number of the first accession; ten digits with leading zeros in the headers.
const FIRST_ACCESSION: usize = 1_000_000;
/// Top folders.
const PLACES: [&str; 4] = ["PACS1", "PACS2/export", "CD archive/disc 7", "old"];
/// Ends of the file names; most have none.
const ENDINGS: [&str; 5] = ["", "", "", ".dcm", ".IMA"];

const FAMILIES: [&str; 16] = [
    "ZAMBELLINI",
    "QUARANTOTTI",
    "FIORDALISO",
    "BENEDUSI",
    "CASTELNOVO",
    "DELLAPINA",
    "ERCOLESSI",
    "GHIRARDUZZI",
    "IMPERATORI",
    "LOCATELLINI",
    "MONTANELLI",
    "NICOLÒSI",
    "ORTOLANDI",
    "PASSERANTI",
    "SCARAMELLI",
    "VENTURELLO",
];
const GIVEN: [&str; 12] = [
    "ADALGISA",
    "BRUNILDE",
    "CESIRA",
    "DESIDERIO",
    "ERMENEGILDO",
    "FILOMENA",
    "GAUDENZIO",
    "ISOTTA",
    "LODOVICO",
    "MAFALDA",
    "OTTORINO",
    "TRANQUILLO",
];

/// A made-up person.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    /// PatientID.
    pub(super) id: String,
    /// PatientName, `FAMILY^GIVEN`.
    pub(super) name: String,
    /// PatientBirthDate, `YYYYMMDD`.
    pub(super) birth_date: String,
    /// Year of birth.
    born: usize,
    /// 'F' or 'M'.
    pub(super) sex: char,
}

/// How a study stands in the labels table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InTable {
    /// With its labels.
    Row,
    /// With a word that means nothing.
    BadRow,
    /// Not at all.
    Missing,
}

/// One examination.
#[derive(Clone, Debug)]
pub(super) struct Study {
    /// Index of the patient.
    pub(super) patient: usize,
    /// Accession number without leading zeros.
    pub(super) accession: usize,
    /// StudyDate, `YYYYMMDD`.
    pub(super) date: String,
    /// Age in years on that day.
    pub(super) age: usize,
    /// Index of the film that gives labels and pixels.
    pub(super) film: usize,
    /// Its row.
    pub(super) in_table: InTable,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A frontal chest film; the header says so in one of four ways.
    Frontal(usize),
    /// A lateral one, said in one of two ways.
    Lateral(usize),
    /// One of the other body parts.
    OtherPart(usize),
    /// Another modality.
    Modality,
    /// A secondary capture.
    Capture,
    /// Several frames, by the header.
    Frames,
    /// A frontal film without accession number.
    NoAccession,
    /// Ends within its pixels.
    Cut,
    /// Rows is twice what the pixels give.
    WrongRows,
    /// No byte at all.
    Empty,
    /// Bytes without meaning.
    Noise,
    /// A beginning as DICOM has it, then an element longer than the file.
    Header,
    /// A text.
    Text,
}

const BROKEN: [Kind; 6] = [Kind::Cut, Kind::WrongRows, Kind::Empty, Kind::Noise, Kind::Header, Kind::Text];

/// One file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Path below `images/`.
    pub(super) item: String,
    /// What it is.
    pub(super) kind: Kind,
    /// Index of its study.
    pub(super) study: usize,
    /// The number burnt into its pixels, below 2^15; equal for copies of one film only.
    pub(super) code: u32,
    /// How it is written.
    pub(super) syntax: WriteSyntax,
    /// Dense tissue is dark.
    pub(super) monochrome1: bool,
    /// The index of the film of which this is a copy.
    pub(super) copy_of: Option<usize>,
}

/// The whole export.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) patients: Vec<Patient>,
    pub(super) studies: Vec<Study>,
    pub(super) files: Vec<File>,
    /// Accession numbers that only the table has.
    pub(super) without_image: Vec<usize>,
}

impl Plan {
    /// Draws the plan of `config`, which has been checked.
    pub(super) fn draw(config: &HospitalConfig, films: &[Film]) -> Self {
        let root = Stream::keyed(config.seed, "phantom-hospital-export");
        let mut plan = Self { patients: Vec::new(), studies: Vec::new(), files: Vec::new(), without_image: Vec::new() };
        while plan.files.len() < config.files {
            let mut s = root.child(plan.studies.len() as u64);
            plan.add_study(&mut s, films);
        }
        plan.files.truncate(config.files);
        let studies = plan.studies.len();
        let further = FIRST_ACCESSION + studies;
        plan.without_image = (further..further + studies / ROWS_WITHOUT_IMAGE).collect();
        plan
    }

    fn add_study(&mut self, s: &mut Stream, films: &[Film]) {
        let patient = if !self.patients.is_empty() && s.uniform() < COMES_BACK {
            s.below(self.patients.len())
        } else {
            self.add_patient(s)
        };
        let year = 2015 + s.below(9);
        let u = s.uniform();
        let in_table = if u < NO_ROW {
            InTable::Missing
        } else if u < NO_ROW + BAD_ROW {
            InTable::BadRow
        } else {
            InTable::Row
        };
        let study = self.studies.len();
        self.studies.push(Study {
            patient,
            accession: FIRST_ACCESSION + study,
            date: date(year, s),
            age: year - self.patients[patient].born,
            film: s.below(films.len()),
            in_table,
        });
        let mut u = s.uniform();
        let mut falls = |share: f64| {
            let hit = (0.0..share).contains(&u);
            u -= share;
            hit
        };
        let main = if falls(OTHER_PART) {
            Kind::OtherPart(s.below(super::files::OTHER_PARTS.len()))
        } else if falls(OTHER_MODALITY) {
            Kind::Modality
        } else if falls(CAPTURE) {
            Kind::Capture
        } else if falls(FRAMES) {
            Kind::Frames
        } else if falls(NO_ACCESSION) {
            Kind::NoAccession
        } else {
            Kind::Frontal(s.below(4))
        };
        let first = self.add_file(s, study, main);
        if !matches!(main, Kind::Frontal(_)) {
            return;
        }
        if s.uniform() < LATERAL {
            let how = s.below(2);
            self.add_file(s, study, Kind::Lateral(how));
        }
        if s.uniform() < SECOND_FRONTAL {
            let how = s.below(4);
            self.add_file(s, study, Kind::Frontal(how));
        }
        let u = s.uniform();
        if in_table == InTable::Row && u < SAME_FILE + SAME_FILM {
            let copy = self.add_file(s, study, main);
            let original = self.files[first].clone();
            let file = &mut self.files[copy];
            (file.code, file.monochrome1, file.copy_of) = (original.code, original.monochrome1, Some(first));
            let other = original.syntax == file.syntax && u >= SAME_FILE;
            if u < SAME_FILE {
                file.syntax = original.syntax;
            } else if other {
                let at = WriteSyntax::ALL.iter().position(|&syntax| syntax == original.syntax).unwrap_or(0);
                file.syntax = WriteSyntax::ALL[(at + 1) % WriteSyntax::ALL.len()];
            }
        }
    }

    fn add_patient(&mut self, s: &mut Stream) -> usize {
        let index = self.patients.len();
        let born = 1925 + s.below(70);
        let (family, given) = (FAMILIES[s.below(FAMILIES.len())], GIVEN[s.below(GIVEN.len())]);
        self.patients.push(Patient {
            id: format!("MRN{:07}", 4_000_000 + index),
            name: format!("{family}^{given}"),
            birth_date: date(born, s),
            born,
            sex: if s.uniform() < 0.5 { 'F' } else { 'M' },
        });
        index
    }

    /// Adds a file, and before it a broken one where that is due; gives its index.
    fn add_file(&mut self, s: &mut Stream, study: usize, kind: Kind) -> usize {
        if self.files.len() % BROKEN_EVERY == BROKEN_AT {
            let broken = BROKEN[self.files.len() / BROKEN_EVERY % BROKEN.len()];
            self.push(s, study, broken);
        }
        self.push(s, study, kind)
    }

    fn push(&mut self, s: &mut Stream, study: usize, kind: Kind) -> usize {
        let index = self.files.len();
        let syntax = match kind {
            // Rows is patched where it lies in this syntax.
            Kind::WrongRows => WriteSyntax::ExplicitLittle,
            // A deflated header may be lost with the end of the file.
            Kind::Cut => [WriteSyntax::ImplicitLittle, WriteSyntax::ExplicitLittle, WriteSyntax::Rle][s.below(3)],
            _ => WriteSyntax::ALL[s.below(WriteSyntax::ALL.len())],
        };
        let (place, ending) = (PLACES[s.below(PLACES.len())], ENDINGS[s.below(ENDINGS.len())]);
        self.files.push(File {
            item: format!("{place}/{:02}/ST{study:05}/SE1/IM{index:06}{ending}", study % 32),
            kind,
            study,
            code: index as u32,
            syntax,
            monochrome1: s.uniform() < MONOCHROME1,
            copy_of: None,
        });
        index
    }
}

/// A day of that year, `YYYYMMDD`.
fn date(year: usize, s: &mut Stream) -> String {
    format!("{year}{:02}{:02}", 1 + s.below(12), 1 + s.below(28))
}
