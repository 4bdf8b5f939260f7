//! `explain/summary.json`: what the report of `compare` shows of the last run of `explain`.
//!
//! Files of other origin may lie in the folder of `explain`, so this file says what belongs to its last run. It
//! holds names of labels and numbers, and no image, patient or file but the mean maps: the report is passed around. It
//! is input like any other: sizes are checked before anything is read, and paths before they are followed.

use super::gallery::Grid;
use super::pictures::{FOLDER, Picture};
use crate::cohort::Cohort;
use crate::cohort::source::is_below;
use crate::fs::read_bounded;
use crate::predict::index::sha256;
use crate::study::SplitSettings;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file below the study's folder.
pub const SUMMARY: &str = "explain/summary.json";
/// Version that this program writes and reads.
pub const SUMMARY_FORMAT: u32 = 1;
/// Largest file that is read.
pub const MAX_SUMMARY_BYTES: u64 = 8 << 20;
/// Most mean maps that are looked at: two per label, and batches of each.
pub const MAX_MAPS: usize = 2048;
/// Largest picture that the report embeds.
pub const MAX_PICTURE_BYTES: u64 = 1 << 20;
/// Bytes of all pictures that the report embeds, before base64 makes them a third longer.
pub const MAX_EMBEDDED_BYTES: u64 = 6 << 20;

/// What one run of `explain` says to the report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// [`SUMMARY_FORMAT`] of the program that wrote it.
    pub format_version: u32,
    /// Identity of the study's images and labels, to notice that they changed.
    pub cohort_hash: String,
    /// How the study was split; empty in files from before this was kept.
    #[serde(default)]
    pub split: String,
    /// What was explained and how, one line each.
    pub facts: Vec<String>,
    /// Warnings of the shortcut check; `None` if it was not made.
    pub shortcuts: Option<Vec<String>>,
    /// Tables: agreement with experts, shortcut check, stability.
    pub tables: Vec<Grid>,
    /// Mean maps, the most telling first.
    pub maps: Vec<MapPicture>,
}

/// A mean map of the summary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapPicture {
    /// Path below the folder of `explain`.
    pub path: String,
    /// What it shows.
    pub words: String,
}

/// A mean map that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedMap {
    /// What it shows.
    pub words: String,
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
}

/// A split's settings as a summary keeps them.
#[must_use]
pub fn split_of(settings: &SplitSettings) -> String {
    format!("{settings:?}")
}

impl Summary {
    /// An empty summary of a run on `cohort`, the whole cohort of the study.
    #[must_use]
    pub fn new(cohort: &Cohort) -> Self {
        Self { format_version: SUMMARY_FORMAT, cohort_hash: hash(cohort), ..Self::default() }
    }

    /// Adds mean maps.
    pub fn show(&mut self, pictures: &[Picture]) {
        let map = |p: &Picture| MapPicture { path: p.path.clone(), words: p.words.clone() };
        self.maps.extend(pictures.iter().map(map));
    }

    /// Whether it was made of this cohort, the whole one of the study.
    #[must_use]
    pub fn is_of(&self, cohort: &Cohort) -> bool {
        self.cohort_hash == hash(cohort)
    }

    /// Reads the summary of the study in `folder`; `None` if there is none.
    ///
    /// # Errors
    /// Why it cannot be used and what to do.
    pub fn read(folder: &Path) -> Result<Option<Self>, String> {
        let path = folder.join(SUMMARY);
        if !path.is_file() {
            return Ok(None);
        }
        let again = "run `chestnut explain` again";
        let bytes = read_bounded(&path, MAX_SUMMARY_BYTES).map_err(|e| format!("{SUMMARY} {e}; {again}"))?;
        let summary: Self =
            serde_json::from_slice(&bytes).map_err(|e| format!("{SUMMARY} cannot be understood ({e}); {again}"))?;
        if summary.format_version != SUMMARY_FORMAT {
            let found = summary.format_version;
            return Err(format!("{SUMMARY} has format {found}, this program reads {SUMMARY_FORMAT}; {again}"));
        }
        Ok(Some(summary))
    }

    /// Reads the mean maps in their order until [`MAX_EMBEDDED_BYTES`] are full, and the number of those left out: too
    /// large, missing, or no PNG below the folder of `explain`.
    #[must_use]
    pub fn embedded(&self, folder: &Path) -> (Vec<EmbeddedMap>, usize) {
        let mut room = MAX_EMBEDDED_BYTES;
        let mut maps = Vec::new();
        // The folder itself may be a link to a larger disk; nothing in it may lead out of it.
        let root = folder.join(FOLDER).canonicalize().ok();
        for map in self.maps.iter().take(MAX_MAPS).filter(|m| is_picture_below(&m.path)) {
            let Some((root, path)) = root.as_ref().zip(folder.join(FOLDER).join(&map.path).canonicalize().ok()) else {
                continue;
            };
            if room == 0 || !path.starts_with(root) {
                continue;
            }
            let Ok(png) = read_bounded(&path, MAX_PICTURE_BYTES.min(room)) else { continue };
            if png.starts_with(b"\x89PNG\r\n\x1a\n") {
                room -= png.len() as u64;
                maps.push(EmbeddedMap { words: map.words.clone(), png });
            }
        }
        let left_out = self.maps.len() - maps.len();
        (maps, left_out)
    }
}

/// Of images, patients and labels, and of all else that cohort.csv says.
fn hash(cohort: &Cohort) -> String {
    sha256(cohort.to_csv().as_bytes())
}

/// Whether a path stays below its folder and names a PNG: an edited summary must not reach other files.
fn is_picture_below(path: &str) -> bool {
    is_below(path) && Path::new(path).extension().is_some_and(|e| e == "png")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cohort::tests::image;

    fn cohort(labels: &str) -> Cohort {
        Cohort {
            label_names: vec!["Lung".to_owned()],
            images: vec![image("a.png", "P1", labels)],
            rejects: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_summary_comes_back_and_knows_its_cohort() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(Summary::read(folder.path()), Ok(None));
        let mut summary = Summary::new(&cohort("+"));
        summary.facts.push("7 images".to_owned());
        summary.shortcuts = Some(vec!["look".to_owned()]);
        summary.tables.push(Grid { title: "T".to_owned(), rows: vec![vec!["1".to_owned()]], ..Grid::default() });
        std::fs::create_dir_all(folder.path().join(FOLDER)).expect("a folder");
        let save = |text: &[u8]| std::fs::write(folder.path().join(SUMMARY), text).expect("a file");
        save(&serde_json::to_vec(&summary).expect("plain values"));
        assert_eq!(Summary::read(folder.path()), Ok(Some(summary.clone())));
        assert!(summary.is_of(&cohort("+")) && !summary.is_of(&cohort("-")));

        summary.format_version = 9;
        save(&serde_json::to_vec(&summary).expect("plain values"));
        assert!(Summary::read(folder.path()).expect_err("another format").contains("format 9"));
        save(b"{}");
        assert!(Summary::read(folder.path()).expect_err("no summary").contains("explain` again"));
        save(&vec![b' '; MAX_SUMMARY_BYTES as usize + 1]);
        assert!(Summary::read(folder.path()).expect_err("too large").contains("more than"));
    }

    #[test]
    fn only_small_pictures_below_the_folder_are_embedded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let below = folder.path().join(FOLDER).join("batches");
        std::fs::create_dir_all(&below).expect("a folder");
        let png = |size: usize| {
            let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
            bytes.resize(size, 0);
            bytes
        };
        let save = |name: &str, bytes: &[u8]| std::fs::write(below.join(name), bytes).expect("a file");
        save("good.png", &png(100));
        save("large.png", &png(MAX_PICTURE_BYTES as usize + 1));
        save("text.png", b"a secret");
        save("good.txt", &png(100));
        std::fs::write(folder.path().join("outside.png"), png(100)).expect("a file");
        let of = |paths: &[&str]| {
            let map = |p: &&str| MapPicture { path: (*p).to_owned(), words: (*p).to_owned() };
            Summary { maps: paths.iter().map(map).collect(), ..Summary::default() }.embedded(folder.path())
        };
        let absolute = folder.path().join("outside.png").display().to_string();
        let (maps, left_out) = of(&[
            "batches/good.png",
            "batches/large.png",
            "batches/text.png",
            "batches/good.txt",
            "batches/none.png",
            "../outside.png",
            absolute.as_str(),
        ]);
        assert_eq!((maps.len(), left_out), (1, 6));
        assert_eq!((maps[0].words.as_str(), maps[0].png.len()), ("batches/good.png", 100));

        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(folder.path().join("outside.png"), below.join("linked.png")).expect("a link");
            assert_eq!(of(&["batches/linked.png"]).1, 1, "a link leads out");
        }
        assert_eq!(of(&["batches/good.png"; MAX_MAPS + 5]).1, 5, "beyond the most");

        // One mebibyte each: six fit.
        save("full.png", &png(MAX_PICTURE_BYTES as usize));
        let (maps, left_out) = of(&["batches/full.png"; 8]);
        assert_eq!((maps.len() as u64, left_out), (MAX_EMBEDDED_BYTES / MAX_PICTURE_BYTES, 2));
    }
}
