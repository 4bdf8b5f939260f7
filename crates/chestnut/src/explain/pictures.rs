//! What `explain` draws of a study: overlays, several labels on one film, mean maps, contact sheets, similar cases,
//! perturbation maps and masked views.
//!
//! Every picture is read, drawn, written and forgotten by itself, so memory grows with the number of threads and not
//! with that of pictures. A film that cannot be read any more is a message; the others go on. Contact sheets name rows
//! of the labels table and no file, since they are passed around.

mod batches;
mod boxes;
mod similar;
mod together;

pub use boxes::{MapBox, boxes_csv};

use ::image::{Rgb, RgbImage, imageops};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::masked::Shortcuts;
use super::overlay::{ColourMap, Heat, Mark, Overlay, Shape, SheetTile, caption_line, encode_png, select_cases, sheet};
use super::perturbed::{Perturbation, Perturbed};
use super::population::MeanMap;
use super::stage::{Explained, ImageMaps};
use super::{BoxRule, CamKind, ExplainError, HeatMap, Mask, MaskRule, Models, SOURCES};
use crate::error::{Error, Result};
use crate::image::Radiograph;
use crate::study::Study;

/// Folder of all of it below the study.
pub const FOLDER: &str = "explain";
/// Side at which mean maps and masked views are drawn.
const PICTURE_SIDE: usize = 448;
/// Longer side of a picture on a contact sheet.
const TILE_SIDE: usize = 200;
/// Most cases of each kind on a contact sheet.
pub const MAX_CASES: usize = 50;
/// Longest part of an image's name in a file name, in characters.
const LONGEST_NAME: usize = 80;
/// What a run may write below [`FOLDER`]; the page goes first.
const FILES: [&str; 11] = [
    "index.html",
    "summary.json",
    "batches.csv",
    "population.csv",
    "agreement.csv",
    "agreement_rows.csv",
    "shortcuts.csv",
    "shortcut_views.png",
    "perturbation.csv",
    "similar.csv",
    "boxes.csv",
];
const FOLDERS: [&str; 8] = ["overlays", "cases", "population", "batches", "together", "similar", "occlusion", "rise"];

/// Removes what an earlier run wrote: it may be of other models.
///
/// # Errors
/// Any I/O error, naming the file.
pub fn clear(study: &Study) -> Result<()> {
    let gone = |path: &std::path::Path, done: std::io::Result<()>| match done {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    };
    for name in FILES {
        let path = study.path(&format!("{FOLDER}/{name}"));
        gone(&path, std::fs::remove_file(&path))?;
    }
    for name in FOLDERS {
        let path = study.path(&format!("{FOLDER}/{name}"));
        gone(&path, std::fs::remove_dir_all(&path))?;
    }
    Ok(())
}

/// A picture that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Path below [`FOLDER`].
    pub path: String,
    /// What it shows.
    pub words: String,
    /// Row of the cohort, if it shows one image.
    pub row: Option<usize>,
    /// Shown below it: its similar cases.
    pub below: Option<Box<Picture>>,
}

/// Pictures of one kind, and what could not be drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    /// In the order asked for.
    pub pictures: Vec<Picture>,
    /// What was boxed on them, in the same order.
    pub boxes: Vec<MapBox>,
    /// One sentence each.
    pub problems: Vec<String>,
}

/// Draws and writes pictures of one study.
#[derive(Clone, Copy, Debug)]
pub struct Painter<'a> {
    /// Models and study.
    pub models: &'a Models<'a>,
    /// Their maps.
    pub explained: &'a Explained,
    /// How the head's maps are made.
    pub kind: CamKind,
    /// Which part of a map is outlined.
    pub mask: MaskRule,
    /// Which boxes are drawn round a map's mask.
    pub boxes: BoxRule,
}

impl Painter<'_> {
    /// Overlays of the images with the highest probabilities by the forest, label after label: about `count` images in
    /// all, each once per model. `progress` is called with (done, total) images.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn overlays(&self, labels: &[usize], count: usize, progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Drawn> {
        let each = count.div_ceil(labels.len().max(1));
        let mut jobs: Vec<(usize, &ImageMaps)> = Vec::new();
        for &label in labels {
            let p = |of: &ImageMaps| of.probabilities[1][label];
            let mut order: Vec<&ImageMaps> = self.explained.images.iter().collect();
            order.sort_by(|x, y| p(y).total_cmp(&p(x)));
            jobs.extend(order.into_iter().take(each.min(count - jobs.len())).map(|of| (label, of)));
        }
        let (done, total) = (AtomicUsize::new(0), jobs.len());
        let draw = |&(label, of): &(usize, &ImageMaps)| -> Result<Drawn> {
            let drawn = self.overlay(label, of);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
            drawn
        };
        Ok(gathered(jobs.par_iter().map(draw).collect::<Result<Vec<Drawn>>>()?))
    }

    fn overlay(&self, label: usize, of: &ImageMaps) -> Result<Drawn> {
        let film = match self.models.film(of.row) {
            Ok(film) => film,
            Err(reason) => return Ok(self.lost(of.row, &reason)),
        };
        let mut drawn = Drawn::default();
        for (source, name) in SOURCES.iter().enumerate() {
            let map = of.map(source, label, self.kind, film.width, film.height)?;
            let words = if source == 1 { "tree-CAM (SHAP values)" } else { self.kind.name() };
            let p = of.probabilities[source][label];
            let mask = self.mask.mask(&map)?;
            let how = if source == 1 { "tree-cam" } else { self.kind.name() };
            let boxes = self.boxed(of.row, label, source, how, &mask);
            let picture = self.over(&film, (&map, &mask, &boxes), label, source, p, words).png()?;
            drawn.boxes.extend(boxes);
            let file = format!("overlays/{}-{}.png", self.name(label, of.row), plain(name));
            let words = format!("{} {p:.2}, {name}, row {}", self.explained.labels[label], self.line(of.row));
            drawn.pictures.push(Picture { row: Some(of.row), ..self.write(file, words, &picture)? });
        }
        Ok(drawn)
    }

    /// Mean maps of the labels, one per model, where any image has heat.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn means(&self, labels: &[usize], maps: &[Vec<MeanMap>; 2]) -> Result<Drawn> {
        let mut drawn = Drawn::default();
        for (source, maps) in SOURCES.iter().zip(maps) {
            for &k in labels {
                let Some(map) = maps[k].mean() else { continue };
                let blank = blank(PICTURE_SIDE);
                let label = &self.explained.labels[k];
                let words = format!("mean of {} images", maps[k].images());
                let picture = Overlay {
                    radiograph: &blank,
                    heat: Some(Heat { map: &map, colours: ColourMap::Heat, opacity: 1.0 }),
                    marks: Vec::new(),
                    caption: vec![caption_line(label, None, source, &words)],
                };
                let file = format!("population/{}-{}.png", self.label_name(k), plain(source));
                drawn.pictures.push(self.write(file, format!("{label}, {source}, {words}"), &picture.png()?)?);
            }
        }
        Ok(drawn)
    }

    /// One contact sheet per label and model: a row each of the `k` surest right cases, the `k` surest wrong ones and
    /// the `k` least sure ones. A probability at or above the label's share of positives among the images that were
    /// learned from counts as a call ([`Models::share`]).
    ///
    /// # Errors
    /// If a file cannot be written, or `k` is 0 or above [`MAX_CASES`].
    pub fn cases(&self, labels: &[usize], k: usize) -> Result<Drawn> {
        if !(1..=MAX_CASES).contains(&k) {
            return Err(ExplainError::setting("cases on a contact sheet", k, format!("1 to {MAX_CASES}")).into());
        }
        let jobs: Vec<(usize, usize)> =
            labels.iter().flat_map(|&label| (0..SOURCES.len()).map(move |source| (label, source))).collect();
        let draw = |&(label, source): &(usize, usize)| self.case_sheet(label, source, k);
        Ok(gathered(jobs.par_iter().map(draw).collect::<Result<Vec<Drawn>>>()?))
    }

    fn case_sheet(&self, label: usize, source: usize, k: usize) -> Result<Drawn> {
        let (name, images) = (&self.explained.labels[label], &self.explained.images);
        let p: Vec<f64> = images.iter().map(|of| of.probabilities[source][label]).collect();
        let truth: Vec<Option<bool>> = images.iter().map(|of| self.models.truth(of.row, label)).collect();
        let threshold = self.models.share(label);
        let cases = select_cases(&p, &truth, threshold, k);
        let mut drawn = Drawn::default();
        let lists = [
            ("surely right", &cases.confident_right),
            ("surely wrong", &cases.confident_wrong),
            ("least sure", &cases.uncertain),
        ];
        if lists.iter().all(|(_, list)| list.is_empty()) {
            drawn.problems.push(format!("{name}: no image of it has a known label, so there is no contact sheet"));
            return Ok(drawn);
        }
        let columns = lists.iter().map(|(_, list)| list.len()).max().unwrap_or(1);
        let nothing = RgbImage::from_pixel(TILE_SIDE as u32, TILE_SIDE as u32, Rgb([24; 3]));
        let mut tiles = Vec::new();
        for (words, list) in lists {
            for column in 0..columns {
                let Some(&i) = list.get(column) else {
                    tiles.push(SheetTile::new(&nothing, "", TILE_SIDE)?);
                    continue;
                };
                let is = if truth[i] == Some(true) { "positive" } else { "negative" };
                let caption = format!("{words}\np {:.2}, is {is}\nrow {}", p[i], self.line(images[i].row));
                match self.tile(&images[i], label, source)? {
                    Ok(picture) => tiles.push(SheetTile::new(&picture, &caption, TILE_SIDE)?),
                    Err(reason) => {
                        drawn.problems.extend(self.lost(images[i].row, &reason).problems);
                        tiles.push(SheetTile::new(&nothing, &caption, TILE_SIDE)?);
                    }
                }
            }
        }
        let file = format!("cases/{}-{}.png", self.label_name(label), plain(SOURCES[source]));
        let words = format!("{name}, {}: called positive from {threshold:.2}", SOURCES[source]);
        let bytes = encode_png(&sheet(&tiles, columns, TILE_SIDE)?)?;
        drawn.pictures.push(self.write(file, words, &bytes)?);
        Ok(drawn)
    }

    /// A small overlay without its colour bar, or why the film cannot be read.
    fn tile(&self, of: &ImageMaps, label: usize, source: usize) -> Result<std::result::Result<RgbImage, String>> {
        let film = match self.models.film(of.row) {
            Ok(film) => film,
            Err(reason) => return Ok(Err(reason)),
        };
        let small = shrunk(&film, TILE_SIDE);
        let (width, height) = (small.width, small.height);
        let map = of.map(source, label, self.kind, width, height)?;
        let colours = colours(source, self.kind);
        let heat = Some(Heat { map: &map, colours, opacity: 0.5 });
        let picture = Overlay { radiograph: &small, heat, marks: Vec::new(), caption: Vec::new() }.draw()?;
        Ok(Ok(imageops::crop_imm(&picture, 0, 0, width as u32, height as u32).to_image()))
    }

    /// Overlays of perturbation maps, one per image, label and model.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn perturbed(&self, labels: &[usize], found: &[Perturbed], method: Perturbation) -> Result<Drawn> {
        let mut drawn = Drawn::default();
        for of in found {
            let film = match self.models.film(of.row) {
                Ok(film) => film,
                Err(reason) => {
                    drawn.problems.extend(self.lost(of.row, &reason).problems);
                    continue;
                }
            };
            for &k in labels {
                for (source, name) in SOURCES.iter().enumerate() {
                    // At the film's size, in whose pixels boxes are given.
                    let map = of.maps[source][k].resized(film.width, film.height)?;
                    let (mask, p) = (self.mask.mask(&map)?, of.probabilities[source][k]);
                    let boxes = self.boxed(of.row, k, source, method.name(), &mask);
                    let mut picture = self.over(&film, (&map, &mask, &boxes), k, source, p, method.describe());
                    drawn.boxes.extend(boxes);
                    if let Some(heat) = &mut picture.heat {
                        // Occlusion has a sign: what speaks against the label is blue. RISE has none.
                        heat.colours =
                            if method == Perturbation::Occlusion { ColourMap::Signed } else { ColourMap::Heat };
                    }
                    let file = format!("{}/{}-{}.png", method.name(), self.name(k, of.row), plain(name));
                    let label = &self.explained.labels[k];
                    let words = format!("{label} {p:.2}, {name}, {}, row {}", method.name(), self.line(of.row));
                    let picture = self.write(file, words, &picture.png()?)?;
                    drawn.pictures.push(Picture { row: Some(of.row), ..picture });
                }
            }
        }
        Ok(drawn)
    }

    /// The views of one image that the shortcut check asked about, on one sheet.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn views(&self, check: &Shortcuts) -> Result<Drawn> {
        let mut drawn = Drawn::default();
        if check.example.is_empty() {
            return Ok(drawn);
        }
        let mut tiles = Vec::new();
        for (view, square) in &check.example {
            let picture = Overlay { radiograph: square, heat: None, marks: Vec::new(), caption: Vec::new() };
            tiles.push(SheetTile::new(&picture.draw()?, view, TILE_SIDE)?);
        }
        let bytes = encode_png(&sheet(&tiles, 4, TILE_SIDE)?)?;
        let words = "One image as the models saw it in each check".to_owned();
        drawn.pictures.push(self.write("shortcut_views.png".to_owned(), words, &bytes)?);
        Ok(drawn)
    }

    /// The overlay of a map, its mask and their boxes on a film.
    fn over<'p>(
        &self,
        film: &'p Radiograph,
        (map, mask, boxes): (&'p HeatMap, &'p Mask, &[MapBox]),
        label: usize,
        source: usize,
        p: f64,
        words: &str,
    ) -> Overlay<'p> {
        let mut marks = vec![Mark { name: self.mask.legend(), shape: Shape::Outline(mask) }];
        let name = if self.boxes == BoxRule::Whole { "its box" } else { "boxes of its parts" };
        marks.extend(boxes.iter().map(|b| Mark { name: name.to_owned(), shape: Shape::Box(b.region) }));
        let mut caption = vec![caption_line(&self.explained.labels[label], Some(p), SOURCES[source], words)];
        if map.is_flat() {
            caption.push("The map is the same everywhere: it points nowhere.".to_owned());
        }
        let heat = Some(Heat { map, colours: colours(source, self.kind), opacity: 0.5 });
        Overlay { radiograph: film, heat, marks, caption }
    }

    fn write(&self, path: String, words: String, bytes: &[u8]) -> Result<Picture> {
        self.models.study().write(&format!("{FOLDER}/{path}"), bytes)?;
        Ok(Picture { path, words, row: None, below: None })
    }

    fn lost(&self, row: usize, reason: &str) -> Drawn {
        let id = &self.explained.cohort.images[row].id;
        Drawn { problems: vec![format!("{id}: {reason}; it is not drawn")], ..Drawn::default() }
    }

    /// Line of the labels table.
    fn line(&self, row: usize) -> u64 {
        self.explained.cohort.images[row].row
    }

    /// Label, place in the cohort and name of an image, for a file.
    fn name(&self, label: usize, row: usize) -> String {
        format!("{}-{}", self.label_name(label), self.image_name(row))
    }

    /// Place in the cohort and name of an image, for a file: images of one name in several folders differ.
    fn image_name(&self, row: usize) -> String {
        let id = &self.explained.cohort.images[row].id;
        let stem: String = plain(id.rsplit('/').next().unwrap_or(id)).chars().take(LONGEST_NAME).collect();
        format!("{row:05}-{stem}")
    }

    /// A label for a file; labels that would share a name get their number.
    fn label_name(&self, label: usize) -> String {
        let short = |l: &String| plain(l).chars().take(LONGEST_NAME).collect::<String>().to_lowercase();
        let labels = &self.explained.labels;
        let name: String = plain(&labels[label]).chars().take(LONGEST_NAME).collect();
        let shared = labels.iter().filter(|l| short(l) == short(&labels[label])).count() > 1;
        if shared { format!("{name}-{label}") } else { name }
    }
}

fn colours(source: usize, kind: CamKind) -> ColourMap {
    if source == 1 || kind == CamKind::HiRes { ColourMap::Signed } else { ColourMap::Heat }
}

fn blank(side: usize) -> Radiograph {
    Radiograph { width: side, height: side, pixels: vec![0.0; side * side], bits: 8 }
}

/// A film whose longer side is brought to `side` pixels; smaller ones stay as they are.
fn shrunk(film: &Radiograph, side: usize) -> Radiograph {
    let longer = film.width.max(film.height).max(1);
    let scaled = |length: usize| (length * side / longer).clamp(1, length.max(1));
    let (width, height) = (scaled(film.width), scaled(film.height));
    Radiograph { width, height, pixels: film.cell_means(width, height), bits: film.bits }
}

fn gathered(parts: Vec<Drawn>) -> Drawn {
    let mut all = Drawn::default();
    for part in parts {
        all.pictures.extend(part.pictures);
        all.boxes.extend(part.boxes);
        all.problems.extend(part.problems);
    }
    all
}

/// A name that is safe in a file name and an address.
#[must_use]
pub fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect()
}
