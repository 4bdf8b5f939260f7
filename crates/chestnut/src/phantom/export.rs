//! A phantom cohort as files: images, labels.csv and, if asked, masks.

use super::{Finding, Phantom, PhantomCase, PhantomConfig, plan, render};
use crate::error::{Error, Result};
use crate::fs::write_atomic;
use crate::image::contact_sheet::{encode_png8, encode_png16};
use crate::image::dicom::{DicomImage, Photometric, Samples, WriteSyntax, write_dicom};
use rayon::prelude::*;
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
/// written again; nothing else is touched. `progress` is called with (done, total).
///
/// # Errors
/// If the configuration makes no sense or a file cannot be written.
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
    let done = AtomicUsize::new(0);
    cases.par_iter().try_for_each(|case| -> Result<()> {
        let phantom = render(config, case);
        write_image(&images, case, &phantom, options.dicom)?;
        if options.masks {
            for (finding, mask) in &phantom.masks {
                let path = masks.join(format!("{}__{}.png", case.image_id, finding.name()));
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
