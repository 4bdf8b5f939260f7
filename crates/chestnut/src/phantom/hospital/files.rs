//! The bytes of each file: a film with its number burnt in, written in its syntax, and damaged where it must be.
//!
//! Same plan, same bytes, in any order. The number stands in 16 fields at the upper border and, reversed, in 16 at the
//! lower one; with its parity bit two numbers differ in at least four fields, which no likeness of films can hide.

use chestnut_stats::random::Stream;
use sha2::{Digest, Sha256};

use super::HospitalConfig;
use super::plan::{File, Kind, Plan};
use crate::error::Result;
use crate::fs::to_hex;
use crate::image::dicom::{DicomImage, Photometric, Samples, encode_dicom};
use crate::phantom::{Hospital, PhantomConfig, plan, render};
use rayon::prelude::*;

/// Fields of a row of the burnt-in number; the last holds its parity.
const FIELDS: usize = 16;
/// A row is this share of the height, inverse.
const FIELD_HEIGHT: usize = 16;
/// BodyPartExamined and SeriesDescription of what is no chest.
pub(super) const OTHER_PARTS: [(&str, &str); 4] =
    [("ABDOMEN", "Addome diretto"), ("HAND", "Mano destra"), ("KNEE", "Ginocchio"), ("PELVIS", "Bacino")];
/// Length of a file without meaning.
const NOISE_BYTES: usize = 6000;

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";
const DIGITAL_XRAY: &str = "1.2.840.10008.5.1.4.1.1.1.1";

/// A rendered film, dense is bright.
pub(super) struct Film {
    pub(super) width: usize,
    pub(super) height: usize,
    bits: u32,
    upright: Vec<u16>,
    /// "AP" or "PA".
    pub(super) view: &'static str,
    /// Labels in the order of `Finding::ALL`.
    pub(super) labels: [bool; 7],
}

impl Film {
    /// Renders the films of an export, one half of each phantom hospital.
    pub(super) fn render_all(config: &HospitalConfig) -> Result<Vec<Self>> {
        let mut films = Vec::with_capacity(config.films);
        for (hospital, images) in [(Hospital::A, config.films.div_ceil(2)), (Hospital::B, config.films / 2)] {
            let phantoms =
                PhantomConfig { images, hospital, seed: config.seed, size: config.size, ..PhantomConfig::default() };
            let cases = plan(&phantoms)?;
            let rendered: Vec<Self> = cases
                .par_iter()
                .map(|case| {
                    let p = render(&phantoms, case);
                    let most = most(p.bits);
                    let upright: Vec<u16> =
                        if p.monochrome1 { p.pixels.iter().map(|&v| most - v.min(most)).collect() } else { p.pixels };
                    let (view, labels) = (case.view, case.labels);
                    Self { width: p.width, height: p.height, bits: p.bits, upright, view, labels }
                })
                .collect();
            films.extend(rendered);
        }
        Ok(films)
    }

    /// The values as a file stores them.
    fn stored(&self, code: u32, monochrome1: bool) -> Vec<u16> {
        let most = most(self.bits);
        let mut pixels = self.upright.clone();
        let word = code | ((code.count_ones() & 1) << (FIELDS - 1));
        let band = (self.height / FIELD_HEIGHT).max(1);
        for y in (0..band).chain(self.height - band..self.height) {
            let row = &mut pixels[y * self.width..(y + 1) * self.width];
            for (x, value) in row.iter_mut().enumerate() {
                let field = x * FIELDS / self.width;
                let bit = if y < band { field } else { FIELDS - 1 - field };
                *value = if (word >> bit) & 1 == 1 { most } else { 0 };
            }
        }
        if monochrome1 {
            pixels.iter_mut().for_each(|v| *v = most - (*v).min(most));
        }
        pixels
    }
}

fn most(bits: u32) -> u16 {
    ((1_u32 << bits) - 1) as u16
}

/// SHA-256 as `cohort.csv` shows it.
pub(super) fn hash(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// The content of a file.
pub(super) fn bytes_of(plan: &Plan, file: &File, films: &[Film], seed: u64) -> Result<Vec<u8>> {
    match file.kind {
        Kind::Empty => return Ok(Vec::new()),
        Kind::Text => return Ok(b"Export of the archive. Questions to the radiology department.\n".to_vec()),
        Kind::Noise => {
            let mut s = Stream::keyed(seed, "phantom-hospital-noise").child(u64::from(file.code));
            // A first byte that no format begins with.
            let mut bytes = vec![0xA5];
            bytes.resize_with(NOISE_BYTES, || s.next_u64() as u8);
            return Ok(bytes);
        }
        Kind::Header => {
            let mut bytes = vec![0; 128];
            bytes.extend(b"DICM\x08\0\x05\0\xFF\xFF\xFF\x7F");
            bytes.resize(NOISE_BYTES, 0x20);
            return Ok(bytes);
        }
        _ => {}
    }
    let film = &films[plan.studies[file.study].film];
    let mut bytes = encode_dicom(&image_of(plan, file, film))?;
    match file.kind {
        Kind::Cut => bytes.truncate(bytes.len() * 3 / 4),
        Kind::WrongRows => double_rows(&mut bytes),
        _ => {}
    }
    Ok(bytes)
}

/// Doubles the value of Rows in explicit little endian.
fn double_rows(bytes: &mut [u8]) {
    const ROWS: &[u8] = b"\x28\0\x10\0US\x02\0";
    let at = bytes.windows(ROWS.len()).position(|w| w == ROWS).expect("the writer writes Rows") + ROWS.len();
    let rows = u16::from_le_bytes([bytes[at], bytes[at + 1]]) * 2;
    bytes[at..at + 2].copy_from_slice(&rows.to_le_bytes());
}

fn image_of(plan: &Plan, file: &File, film: &Film) -> DicomImage {
    let study = &plan.studies[file.study];
    let patient = &plan.patients[study.patient];
    let stored = film.stored(file.code, file.monochrome1);
    let samples =
        if film.bits <= 8 { Samples::U8(stored.iter().map(|&v| v as u8).collect()) } else { Samples::U16(stored) };
    let mut extra: Vec<(u16, u16, String)> = Vec::new();
    let mut put = |group: u16, element: u16, value: &str| extra.push((group, element, value.to_owned()));
    put(0x0008, 0x0020, &study.date);
    put(0x0008, 0x0030, "101530");
    if file.kind != Kind::NoAccession {
        put(0x0008, 0x0050, &format!("{:010}", study.accession));
    }
    put(0x0008, 0x0080, "OSPEDALE FITTIZIO");
    put(0x0008, 0x0090, "REFERENTINI^CLOTILDE");
    put(0x0008, 0x1030, "RX TORACE");
    put(0x0010, 0x0030, &patient.birth_date);
    // The values that stand for a frontal chest film, unless something below says otherwise.
    let (mut view, mut series) = (film.view, format!("Chest {}", film.view));
    match file.kind {
        Kind::Frontal(1) => {
            (view, series) = ("", "Torace".to_owned());
            put(0x0018, 0x0015, "");
        }
        Kind::Frontal(2) => {
            (view, series) = ("", "TORACE A LETTO".to_owned());
            put(0x0020, 0x0020, "");
        }
        Kind::Frontal(3) => {
            (view, series) = ("", "Thorax PA".to_owned());
            put(0x0020, 0x0020, "");
            put(0x0008, 0x0016, DIGITAL_XRAY);
            put(0x0008, 0x0060, "DX");
        }
        Kind::Lateral(how) => {
            (view, series) = (["LL", ""][how], "Torace LL".to_owned());
            put(0x0020, 0x0020, "A\\F");
        }
        Kind::OtherPart(part) => {
            let (code, text) = OTHER_PARTS[part];
            series = text.to_owned();
            put(0x0018, 0x0015, code);
        }
        Kind::Modality => put(0x0008, 0x0060, "CT"),
        Kind::Capture => put(0x0008, 0x0016, SECONDARY_CAPTURE),
        Kind::Frames => put(0x0028, 0x0008, "12"),
        _ => {}
    }
    DicomImage {
        width: film.width,
        height: film.height,
        samples,
        bits_stored: film.bits,
        photometric: if file.monochrome1 { Photometric::Monochrome1 } else { Photometric::Monochrome2 },
        view_position: view.to_owned(),
        patient_id: patient.id.clone(),
        patient_name: patient.name.clone(),
        age_years: Some(study.age as u32),
        sex: Some(patient.sex),
        study: format!("hospital export {}", study.accession),
        image: format!("hospital export {} {}", study.accession, file.code),
        series_description: series,
        manufacturer: "chestnut phantom".to_owned(),
        pixel_mm: None,
        syntax: file.syntax,
        extra,
    }
}
