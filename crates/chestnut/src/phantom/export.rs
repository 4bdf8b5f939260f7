//! A phantom cohort as files: images, labels.csv and, if asked, masks.

use super::{Finding, Phantom, PhantomCase, PhantomConfig, plan, render};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::image::contact_sheet::{encode_png8, encode_png16};
use crate::image::dicom::{DicomImage, Photometric, Samples, WriteSyntax, write_dicom};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What to write beside the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// DICOM files instead of PNG.
    pub dicom: bool,
    /// A mask per finding.
    pub masks: bool,
}

/// Renders the cohort of `config` into `folder`: `images/`, `labels.csv`, and `masks/` if asked. Files that exist are
/// written again; a folder with other images or masks is refused. `progress` is called with (done, total).
///
/// # Errors
/// If the configuration makes no sense, the folder holds what is not of this cohort, or a file cannot be written.
pub fn export(
    config: &PhantomConfig,
    folder: &Path,
    options: ExportOptions,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<PathBuf> {
    let cases = plan(config)?;
    let images = folder.join("images");
    crate::fs::create_writable_folder(&images).map_err(Error::Write)?;
    let masks = folder.join("masks");
    if options.masks {
        crate::fs::create_writable_folder(&masks).map_err(Error::Write)?;
    }
    let names: BTreeSet<PathBuf> = cases.iter().map(|case| images.join(file_name(case, options.dicom))).collect();
    only_ours(&images, &names)?;
    if masks.is_dir() {
        let found = |case: &PhantomCase| {
            let findings = Finding::ALL.into_iter().filter(|f| *f != Finding::Normal && case.labels[f.index()]);
            findings.map(|f| masks.join(mask_name(case, f))).collect::<Vec<_>>()
        };
        let names: BTreeSet<PathBuf> = cases.iter().filter(|_| options.masks).flat_map(found).collect();
        only_ours(&masks, &names)?;
    }
    let done = AtomicUsize::new(0);
    cases.par_iter().try_for_each(|case| -> Result<()> {
        let phantom = render(config, case);
        write_image(&images, case, &phantom, options.dicom)?;
        if options.masks {
            for (finding, mask) in &phantom.masks {
                let path = masks.join(mask_name(case, *finding));
                let bytes = encode_png8(phantom.width, phantom.height, mask)?;
                write_atomic(&path, &bytes).map_err(Error::Write)?;
            }
        }
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, cases.len());
        Ok(())
    })?;
    let mut rows = vec![["image", "patient_id", "view", "age_years", "sex"].map(str::to_owned).to_vec()];
    rows[0].extend(Finding::ALL.iter().map(|f| f.name().to_owned()));
    for case in &cases {
        let mut row = vec![
            file_name(case, options.dicom),
            case.patient_id.clone(),
            case.view.to_owned(),
            case.age_years.to_string(),
            case.sex.to_string(),
        ];
        row.extend(case.labels.iter().map(|&l| if l { "1" } else { "0" }.to_owned()));
        rows.push(row);
    }
    let path = folder.join("labels.csv");
    write_atomic(&path, crate::cohort::table::to_csv(rows).as_bytes()).map_err(Error::Write)?;
    Ok(path)
}

fn file_name(case: &PhantomCase, dicom: bool) -> String {
    format!("{}.{}", case.image_id, if dicom { "dcm" } else { "png" })
}

fn mask_name(case: &PhantomCase, finding: Finding) -> String {
    format!("{}__{}.png", case.image_id, finding.name())
}

/// Removes the images that exports before have left in `folder`: files in `images/` with a phantom's name. Nothing else
/// is touched.
///
/// # Errors
/// If a file cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder.join("images")).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(is_phantom) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Whether a file is called as phantoms are: hospital, seed, position (`A0-00012.png`).
fn is_phantom(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let stem = name.strip_suffix(".png").or_else(|| name.strip_suffix(".dcm"));
    let parts = stem.and_then(|stem| stem.split_once('-'));
    parts.is_some_and(|(of, at)| of.strip_prefix(['A', 'B']).is_some_and(number) && number(at))
}

/// Refuses a folder that holds other files than `ours`: of an image without a row, `ingest` can only say that. Hidden
/// files, at which `ingest` does not look, are a killed run's.
///
/// # Errors
/// [`Error::Request`] with the number of those files and the first of them, or an I/O error.
pub(super) fn only_ours(folder: &Path, ours: &BTreeSet<PathBuf>) -> Result<()> {
    let mut others = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in std::fs::read_dir(&inner).map_err(Error::io(&inner))? {
            let entry = entry.map_err(Error::io(&inner))?;
            let kind = entry.file_type().map_err(Error::io(&inner))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if !ours.contains(&entry.path()) {
                others.push(entry.path());
            }
        }
    }
    match others.iter().min() {
        None => Ok(()),
        Some(first) => Err(Error::Request(format!(
            "{} holds {} files that this export does not make, such as {}; remove them or choose another folder (-o)",
            folder.display(),
            others.len(),
            first.display()
        ))),
    }
}

fn write_image(folder: &Path, case: &PhantomCase, p: &Phantom, dicom: bool) -> Result<()> {
    let path = folder.join(file_name(case, dicom));
    if dicom {
        let samples = if p.bits <= 8 {
            Samples::U8(p.pixels.iter().map(|&v| v as u8).collect())
        } else {
            Samples::U16(p.pixels.clone())
        };
        let image = DicomImage {
            width: p.width,
            height: p.height,
            samples,
            bits_stored: p.bits,
            photometric: if p.monochrome1 { Photometric::Monochrome1 } else { Photometric::Monochrome2 },
            view_position: case.view.to_owned(),
            patient_id: case.patient_id.clone(),
            patient_name: format!("Phantom^{}", case.patient_id),
            age_years: Some(case.age_years),
            sex: Some(case.sex),
            study: case.image_id.clone(),
            image: case.image_id.clone(),
            series_description: format!("Chest {}", case.view),
            manufacturer: "chestnut phantom".to_owned(),
            pixel_mm: None,
            syntax: WriteSyntax::default(),
            extra: Vec::new(),
        };
        return Ok(write_dicom(&path, &image)?);
    }
    // A PNG cannot say that it is inverted, and holds 8 or 16 bits: values are spread over the full range.
    let most = ((1_u32 << p.bits) - 1) as u16;
    let upright = |v: u16| if p.monochrome1 { most - v.min(most) } else { v };
    let bytes = if p.bits <= 8 {
        encode_png8(p.width, p.height, &p.pixels.iter().map(|&v| upright(v) as u8).collect::<Vec<_>>())?
    } else {
        encode_png16(p.width, p.height, &p.pixels.iter().map(|&v| upright(v) << (16 - p.bits)).collect::<Vec<_>>())?
    };
    write_atomic(&path, &bytes).map_err(Error::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phantom::Hospital;

    fn config(hospital: Hospital, images: usize) -> PhantomConfig {
        PhantomConfig { images, hospital, seed: 7, size: 64, ..PhantomConfig::default() }
    }

    #[test]
    fn phantoms_are_known_by_their_names() {
        for hospital in [Hospital::A, Hospital::B] {
            let cases = plan(&config(hospital, 3)).expect("a plan");
            assert!(cases.iter().all(|case| [true, false].iter().all(|&dicom| is_phantom(&file_name(case, dicom)))));
        }
        for name in ["", "A7.png", "A7-.png", "A-00001.png", "C7-00001.png", "A7-00001.jpg", "A7-1x.png", "me.png"] {
            assert!(!is_phantom(name), "{name}");
        }
    }

    #[test]
    fn nothing_of_another_export_gets_among_the_images() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let draw = |images: usize, masks: bool| {
            let options = ExportOptions { dicom: false, masks };
            export(&config(Hospital::A, images), folder.path(), options, &|_, _| {}).map_err(|e| e.to_string())
        };
        let there = |name: &str| folder.path().join(name).is_file();
        draw(5, true).expect("into an empty folder");
        draw(5, true).expect("the same again");
        // A killed run's.
        std::fs::write(folder.path().join("images/.chestnut-x"), "half").expect("written");
        let message = draw(3, true).expect_err("a smaller one");
        assert!(message.contains("2 files") && message.contains("A7-00003.png") && message.contains("-o"), "{message}");
        assert!(draw(5, false).expect_err("without masks").contains("masks"));

        std::fs::write(folder.path().join("images/mine.png"), "mine").expect("written");
        clear(folder.path()).expect("removed");
        assert!(there("images/mine.png") && there("images/.chestnut-x") && !there("images/A7-00000.png"));
        assert!(draw(3, true).expect_err("somebody's own").contains("mine.png"));
        std::fs::remove_file(folder.path().join("images/mine.png")).expect("removed");
        std::fs::remove_dir_all(folder.path().join("masks")).expect("removed");
        draw(3, false).expect("a smaller one after the larger one is gone");
        clear(&folder.path().join("nowhere")).expect("nothing to do");
    }
}
