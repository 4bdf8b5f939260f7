//! What a row of the table is about: a file, a study, a patient.
//!
//! Many hospitals label studies, not files: one row per accession number, applied to each image of the study (as for
//! HUM-CXR, paper section 2.1). The kind of key follows from the name of its column; for a column that the user named
//! and whose name says nothing, from what stands in it. Keys are matched with DICOM headers in `join`.

use super::super::label_set::plain;

/// What the key column of a labels table holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// File name or path of an image.
    #[default]
    File,
    /// AccessionNumber (0008,0050): one order, usually one study.
    Accession,
    /// StudyInstanceUID (0020,000D).
    StudyUid,
    /// PatientID (0010,0020).
    PatientId,
    /// SOPInstanceUID (0008,0018): one image.
    SopUid,
}

/// Names of file columns, as [`plain`] makes them; earlier ones win.
const FILE_NAMES: [&str; 9] =
    ["image", "imageindex", "imageid", "filename", "file", "path", "imagepath", "imagefile", "imagename"];
/// Names of columns with a key of the DICOM header. Finer keys win over coarser ones.
const HEADER_NAMES: [(KeyKind, &[&str]); 4] = [
    (KeyKind::SopUid, &["sopinstanceuid", "sopuid", "imageuid", "instanceuid"]),
    (KeyKind::StudyUid, &["studyinstanceuid", "studyuid", "studyiuid"]),
    (
        KeyKind::Accession,
        &[
            "accessionnumber",
            "accession",
            "accessionno",
            "accessionnr",
            "accessionnum",
            "accessionid",
            "accnumber",
            "accno",
            "accnr",
            "numeroaccession",
            "numeroaccettazione",
        ],
    ),
    (KeyKind::PatientId, &super::PATIENT_NAMES),
];
/// Cells of a column that are looked at.
const LOOKED_AT: usize = 1000;

impl KeyKind {
    /// Whether the headers of the images must be read to find a row's images.
    #[must_use]
    pub fn needs_header(self) -> bool {
        self != Self::File
    }

    /// What it is, for people: "file name", "accession number" ...
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::File => "file name",
            Self::Accession => "accession number",
            Self::StudyUid => "StudyInstanceUID",
            Self::PatientId => "patient id",
            Self::SopUid => "SOPInstanceUID",
        }
    }

    /// What one key stands for: "image", "study", "patient".
    pub(crate) fn subject(self) -> &'static str {
        match self {
            Self::File | Self::SopUid => "image",
            Self::Accession | Self::StudyUid => "study",
            Self::PatientId => "patient",
        }
    }

    /// The key column of a table and its kind by the usual names: files before headers.
    pub(crate) fn find(header: &[String]) -> Option<(usize, Self)> {
        let named = |name: &&str| (0..header.len()).find(|&c| plain(&header[c]) == **name);
        let file = FILE_NAMES.iter().find_map(named).map(|column| (column, Self::File));
        file.or_else(|| {
            HEADER_NAMES.iter().find_map(|(kind, names)| names.iter().find_map(named).map(|column| (column, *kind)))
        })
    }

    /// The kind of a column that the user named, by its name, else by its name and cells.
    pub(crate) fn of_column<'a>(name: &str, cells: impl Iterator<Item = &'a str>) -> Self {
        let name = plain(name);
        if FILE_NAMES.contains(&name.as_str()) {
            return Self::File;
        }
        if let Some((kind, _)) = HEADER_NAMES.iter().find(|(_, names)| names.contains(&name.as_str())) {
            return *kind;
        }
        let cells: Vec<&str> = cells.map(str::trim).filter(|c| !c.is_empty()).take(LOOKED_AT).collect();
        let has = |word: &str| name.contains(word);
        if !cells.is_empty() && cells.iter().all(|cell| is_uid(cell)) {
            // Files are often called by the UID of their image, so the name must say that it is none of a file.
            return if has("study") || has("exam") {
                Self::StudyUid
            } else if has("sop") || has("instance") {
                Self::SopUid
            } else {
                Self::File
            };
        }
        if cells.iter().any(|cell| cell.contains(['/', '\\', '.'])) {
            return Self::File;
        }
        if has("access") || has("accettazione") {
            Self::Accession
        } else if has("patient") || has("paziente") || has("subject") || name == "mrn" || name == "pid" {
            Self::PatientId
        } else {
            Self::File
        }
    }
}

/// Whether a text is a DICOM UID: numbers between dots, at most 64 characters (PS3.5, section 9); at least four
/// numbers, or three below 2.25, where UIDs are made from UUIDs (annex B.2).
fn is_uid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let long_enough = parts.len() >= 4 || (parts.len() == 3 && text.starts_with("2.25."));
    text.len() <= 64 && long_enough && parts.iter().all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(header: &[&str]) -> Option<(usize, KeyKind)> {
        KeyKind::find(&header.iter().map(|&h| h.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn columns_are_known_by_their_names() {
        for name in ["accession", "accession_number", "AccessionNumber", "Accession No.", "ACC. NR"] {
            assert_eq!(found(&["PatientID", name]), Some((1, KeyKind::Accession)), "{name}");
        }
        assert_eq!(found(&["Patient ID", "Study Instance UID", "Accession"]), Some((1, KeyKind::StudyUid)));
        assert_eq!(found(&["StudyInstanceUID", "SOPInstanceUID"]), Some((1, KeyKind::SopUid)));
        assert_eq!(found(&["PatientID", "Pleura"]), Some((0, KeyKind::PatientId)));
        assert_eq!(found(&["accession", "Image"]), Some((1, KeyKind::File)), "files come first");
        assert_eq!(found(&["Pleura", "sex"]), None);
    }

    #[test]
    fn a_named_column_is_known_by_name_and_content() {
        let kind = |name: &str, cells: &[&str]| KeyKind::of_column(name, cells.iter().copied());
        assert_eq!(kind("accession", &["a.png"]), KeyKind::Accession, "a plain name is believed");
        assert_eq!(kind("picture", &["scan001"]), KeyKind::File);
        assert_eq!(kind("picture", &["1.2.840.5", "1.2.840.6"]), KeyKind::File);
        assert_eq!(kind("study", &["1.2.840.5", "", " 1.2.840.6 "]), KeyKind::StudyUid);
        assert_eq!(kind("study", &["2.25.329800735698586629295641978511506172918"]), KeyKind::StudyUid);
        assert_eq!(kind("dicom instance", &["1.2.840.5"]), KeyKind::SopUid);
        assert_eq!(kind("RIS accession (export)", &["00123"]), KeyKind::Accession);
        assert_eq!(kind("MRN", &["123"]), KeyKind::PatientId);
        assert_eq!(kind("patient file", &["p1/a.dcm"]), KeyKind::File);
    }
}
