//! Masks as image files: inside is brighter than the middle between the darkest and the brightest pixel.
//!
//! A folder's files are called `<image>_<label>.png`, where image and label are names that the study knows; a table
//! names image, label and a file below its own folder. A file that numbers several labels with its grey values is
//! refused, since nothing tells which number is which label.

use std::path::{Component, Path};

use super::collector::{Collector, quote};
use super::known::{Match, without_ending};
use super::{ExpertError, Known, MAX_MASK_FILES, Row, Runs};
use crate::image::{ImageError, Radiograph};

/// Masks with more than two grey values of which none is above this are maps of numbered labels.
const MOST_NUMBERED: f32 = 31.0;

/// Reads every PNG file of a folder, in the order of their names.
pub(super) fn read_folder(folder: &Path, collector: &mut Collector<'_>) -> Result<(), ExpertError> {
    let failed = |source| ExpertError::Io { path: folder.to_owned(), source };
    let mut names: Vec<String> = Vec::new();
    let mut others = 0usize;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        let is_png = name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("png"));
        if !is_png || name.starts_with('.') {
            others += 1;
        } else if names.len() == MAX_MASK_FILES {
            return Err(ExpertError::TooMany {
                name: folder.display().to_string(),
                what: "or more mask files",
                found: MAX_MASK_FILES + 1,
                limit: MAX_MASK_FILES,
            });
        } else {
            names.push(name);
        }
    }
    names.sort_unstable();
    if others > 0 {
        collector.note(format!("{}: {others} entries that are no PNG files are left out", folder.display()));
    }
    for name in names {
        if let Some(target) = target_of(&name, collector) {
            add_file(&name, &folder.join(&name), target, collector);
        }
    }
    Ok(())
}

/// Reads the mask file of every row. Paths are relative to the table's folder, or to a folder beside it of its name.
pub(super) fn read_rows(table: &Path, rows: &[Row<'_>], file: usize, collector: &mut Collector<'_>) {
    let folder = table.parent().unwrap_or(Path::new(""));
    let beside = table.with_extension("");
    for row in rows {
        let Some(target) = row.target(collector) else { continue };
        let name = Path::new(row.cell(file));
        // Nothing outside of the table's folder is opened at a table's word.
        let is_below = name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_below || row.cell(file).is_empty() {
            collector.problem(format!("{}: {} is no path below the table's folder", row.place, quote(row.cell(file))));
            continue;
        }
        let inner = beside.join(name);
        let path = if inner.is_file() { inner } else { folder.join(name) };
        add_file(&row.place, &path, target, collector);
    }
}

/// Image and label of a file name; every underscore may be the one between them.
fn target_of(name: &str, collector: &mut Collector<'_>) -> Option<(usize, usize)> {
    let known: &Known = collector.known();
    let stem = without_ending(name);
    let halves = stem.match_indices('_').map(|(at, _)| (stem[..at].trim_end_matches('_'), &stem[at + 1..]));
    let mut fits: Vec<(usize, usize)> = Vec::new();
    // The label of a name that begins with an image of the study.
    let mut unknown: Option<&str> = None;
    for (image, label) in halves {
        match (known.image(image), known.label(label)) {
            (Match::One(image), Some(label)) => fits.push((image, label)),
            (Match::One(_), None) => unknown = Some(label),
            _ => {}
        }
    }
    fits.sort_unstable();
    fits.dedup();
    match (fits.as_slice(), unknown) {
        ([one], _) => return Some(*one),
        ([], Some(label)) => {
            collector.label(label.trim_start_matches('_'));
        }
        ([], None) => collector.problem(format!(
            "{}: the name is not made of an image and a label of the study, as in image_label.png",
            quote(name)
        )),
        _ => collector.problem(format!(
            "{}: the name fits several images and labels; give a table with image, label and file",
            quote(name)
        )),
    }
    None
}

fn add_file(place: &str, path: &Path, target: (usize, usize), collector: &mut Collector<'_>) {
    let decoded = match crate::image::read(path) {
        Ok(decoded) => decoded,
        Err(ImageError::NoContrast) => {
            collector.problem(format!("{place}: the mask has one value everywhere, so it outlines nothing; remove it"));
            return;
        }
        Err(error) => {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            collector.problem(format!("{place}: {name} {error}"));
            return;
        }
    };
    let mask = decoded.radiograph;
    if !collector.fits(place, target.0, mask.width, mask.height) {
        return;
    }
    match inside(&mask, decoded.colour) {
        Some(inside) => collector.add(place, target, Runs::from_inside(&inside)),
        None => collector.problem(format!(
            "{place}: its grey values or colours seem to stand for several labels; save one black and white mask per \
             label"
        )),
    }
}

/// One value per pixel; `None` for a map of several labels.
pub(in crate::explain) fn inside(mask: &Radiograph, colour: bool) -> Option<Vec<bool>> {
    let (low, high) = mask.range();
    let is_two_valued = mask.pixels.iter().all(|&v| v == low || v == high);
    if !is_two_valued && (colour || high <= MOST_NUMBERED) {
        return None;
    }
    // The middle between both, so that a dark grey background stays outside.
    let middle = low + (high - low) / 2.0;
    Some(mask.pixels.iter().map(|&v| v > middle).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_of_a_mask_file() {
        let inside_of = |pixels: &[f32], colour: bool| {
            inside(&Radiograph { width: pixels.len(), height: 1, pixels: pixels.to_vec(), bits: 8 }, colour)
        };
        for pixels in [[0.0, 1.0, 0.0], [0.0, 255.0, 0.0], [76.0, 150.0, 76.0], [0.0, 200.0, 90.0]] {
            assert_eq!(inside_of(&pixels, false), Some(vec![false, true, false]), "{pixels:?}");
        }
        assert_eq!(inside_of(&[0.0, 76.0], true), Some(vec![false, true]), "red on black");
        assert_eq!(inside_of(&[0.0, 1.0, 2.0], false), None, "numbers of labels");
        assert_eq!(inside_of(&[0.0, 76.0, 150.0], true), None, "several colours");
    }
}
