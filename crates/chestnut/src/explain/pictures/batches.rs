//! The mean maps of two random batches side by side (paper section 3.4).

use ::image::imageops;

use super::{Drawn, Painter, blank, plain};
use crate::error::Result;
use crate::explain::batches::{Batches, Over, Pair, describe};
use crate::explain::overlay::{ColourMap, Heat, Overlay, SheetTile, encode_png, sheet};
use crate::explain::population::MeanMap;
use crate::explain::{HeatMap, SOURCES};

/// Side of one mean map.
const SIDE: usize = 256;

impl Painter<'_> {
    /// Mean maps of two batches side by side: per model one picture of the most probable labels, and one of each of
    /// `labels` over all images. Where a batch has no heat there is none.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn batches(&self, labels: &[usize], batches: &Batches) -> Result<Drawn> {
        let mut drawn = Drawn::default();
        for pair in batches.pairs() {
            let (file, label) = match pair.over {
                Over::Top => ("top".to_owned(), describe(Over::Top).to_owned()),
                Over::Label(k) if labels.contains(&k) => {
                    (format!("label-{}", self.label_name(k)), batches.label(pair.over).unwrap_or_default().to_owned())
                }
                Over::Label(_) | Over::TopOf(_) => continue,
            };
            let Some(bytes) = side_by_side(&pair, &label)? else { continue };
            let model = SOURCES[pair.source];
            let alike = pair.correlation().map_or_else(|| "none".to_owned(), |r| format!("{r:.2}"));
            let [first, second] = pair.maps.map(MeanMap::images);
            let words = format!("{label}, {model}: means of {first} and {second} images, correlation {alike}");
            let file = format!("batches/{file}-{}.png", plain(model));
            drawn.pictures.push(self.write(file, words, &bytes)?);
        }
        Ok(drawn)
    }
}

/// The picture of a pair; `None` where a batch has no heat.
fn side_by_side(pair: &Pair<'_>, label: &str) -> Result<Option<Vec<u8>>> {
    let mut tiles = Vec::with_capacity(2);
    for (number, mean) in pair.maps.iter().enumerate() {
        let Some(map) = mean.mean() else { return Ok(None) };
        let caption = format!("{label}\n{}\nbatch {}: {} images", SOURCES[pair.source], number + 1, mean.images());
        tiles.push(tile(&map, &caption)?);
    }
    Ok(Some(encode_png(&sheet(&tiles, 2, SIDE)?)?))
}

/// A map without its colour bar: both are scaled from 0 to 1 on every image, and it is their place that counts.
fn tile(map: &HeatMap, caption: &str) -> Result<SheetTile> {
    let film = blank(SIDE);
    let heat = Some(Heat { map, colours: ColourMap::Heat, opacity: 1.0 });
    let picture = Overlay { radiograph: &film, heat, marks: Vec::new(), caption: Vec::new() }.draw()?;
    let picture = imageops::crop_imm(&picture, 0, 0, SIDE as u32, SIDE as u32).to_image();
    Ok(SheetTile::new(&picture, caption, SIDE)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::CamKind;
    use crate::explain::batches::batches;
    use crate::explain::stage::tests::{explained_of, map_at};

    #[test]
    fn both_maps_are_drawn_in_their_own_place() {
        let maps = [[map_at(0), map_at(0)], [map_at(0), map_at(3)]];
        let found = batches(&explained_of(&maps, &[[0.9, 0.1]; 2]), CamKind::GradCam, 1, 8, 1).expect("possible");
        let pair = found.pairs().into_iter().find(|p| p.over == Over::Label(1)).expect("a pair");
        let bytes = side_by_side(&pair, "PNX").expect("drawn").expect("heat");
        let picture = ::image::load_from_memory(&bytes).expect("a PNG").to_luma8();
        // In one half the upper left is brighter than the lower right, in the other it is darker.
        let half = picture.width() / 2;
        let brighter = |left: u32| picture.get_pixel(left + 40, 40).0[0] > picture.get_pixel(left + 220, 220).0[0];
        assert!(half as usize > SIDE && brighter(0) != brighter(half), "{:?}", picture.dimensions());
        let none = found.pairs().into_iter().find(|p| p.over == Over::TopOf(1)).expect("a pair");
        assert_eq!(side_by_side(&none, "PNX").expect("nothing to draw"), None);
    }
}
