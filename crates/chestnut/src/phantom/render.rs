//! One phantom from its plan: anatomy, findings, film, masks.
//!
//! The picture is a pure function of configuration and case: each part draws from its own keyed stream, so
//! neither order nor threads matter, and changing one finding leaves the others as they are. Opacity and
//! vessels count only where there is air to replace. Nothing is read or written here.

use chestnut_stats::random::Stream;

use super::anatomy::{self, Anatomy, Visit};
use super::film::{self, Practice};
use super::findings::{self, MASK_SUPPORT, PleuralPlanes, Pneumothorax};
use super::grid::{Area, Canvas, Frame, Point, fractal, step};
use super::{Finding, MAX_SIZE, MIN_SIZE, Phantom, PhantomCase, PhantomConfig, bones, devices, lungs};

/// Conspicuity is a uniform draw to this power: below 1 there are fewer subtle findings than obvious ones.
const CONSPICUITY_POWER: f64 = 0.8;
/// Mottle of the soft tissues and of the lung, in attenuation.
const TISSUE_MOTTLE: f32 = 0.035;
const LUNG_MOTTLE: f32 = 0.045;
/// An opacity is in the mask where at least this share of air is replaced.
const MASK_AIR: f32 = 0.25;

// Keys of the streams of an image.
const FRAME_KEY: u64 = 1;
const VISIT_KEY: u64 = 2;
const FILM_KEY: u64 = 3;
const FORMAT_KEY: u64 = 4;
const SHORTCUT_KEY: u64 = 5;
const CONSPICUITY_KEY: u64 = 100;
const FINDING_KEY: u64 = 200;

/// Renders one planned case; the same bytes for the same arguments on any thread.
///
/// `config` should have passed [`PhantomConfig::check`]; a size out of range is clamped.
#[must_use]
pub fn render(config: &PhantomConfig, case: &PhantomCase) -> Phantom {
    let size = config.size.clamp(MIN_SIZE, MAX_SIZE);
    let stream = Stream::keyed(config.seed, &format!("phantom-image-{}", config.hospital)).child(case.index as u64);
    let practice = Practice::of(config.hospital);
    let ap = case.view == "AP";
    let has = |f: Finding| case.labels[f.index()];
    let of = |f: Finding| stream.child(FINDING_KEY + f.index() as u64);
    let conspicuity = |f: Finding| {
        let u = stream.child(CONSPICUITY_KEY + f.index() as u64).uniform();
        u.powf(CONSPICUITY_POWER) as f32
    };

    let frame = practice.frame(size, ap, &mut stream.child(FRAME_KEY));
    let pnx = has(Finding::Pneumothorax)
        .then(|| Pneumothorax::new(&mut of(Finding::Pneumothorax), conspicuity(Finding::Pneumothorax)));
    let anatomy = Anatomy::new(
        config.seed,
        case,
        Visit {
            stream: stream.child(VISIT_KEY),
            enlarged: has(Finding::Cardiac).then(|| conspicuity(Finding::Cardiac)),
            push: pnx.as_ref().map_or(0.0, Pneumothorax::push),
        },
    );
    let mut canvas = Canvas::new(frame);
    let pixels = frame.width * frame.height;
    let mut truth = Truth { frame, masks: Vec::new() };

    let mut tissue = anatomy::soft_tissue(&frame, &anatomy);
    lungs::bronchi(&mut canvas, &anatomy, &mut tissue.attenuation);
    if has(Finding::Cardiac) {
        let mask = tissue.heart.iter().map(|&h| if h > 0.5 { 255 } else { 0 }).collect();
        truth.add(Finding::Cardiac, mask, super::grid::at(anatomy.heart.x, anatomy.heart.y));
    }
    let fractures = if has(Finding::Bone) {
        bones::fractures(&mut of(Finding::Bone), conspicuity(Finding::Bone))
    } else {
        Vec::new()
    };
    let mut bone_mask = vec![0_u8; pixels];
    let site = bones::paint(&mut canvas, &anatomy, &mut tissue.attenuation, &fractures, &mut bone_mask);

    let mut kept = vec![1.0_f32; pixels];
    let mut pnx_mask = vec![0_u8; pixels];
    let pnx_place = pnx
        .as_ref()
        .map(|p| p.paint(frame, &anatomy, &tissue.inside, &mut tissue.attenuation, &mut kept, &mut pnx_mask));
    let mut pleura_mask = vec![0_u8; pixels];
    let pleura_place = has(Finding::Pleura).then(|| {
        let mut planes = PleuralPlanes {
            inside: &tissue.inside,
            attenuation: &mut tissue.attenuation,
            air: &mut tissue.air,
            mask: &mut pleura_mask,
        };
        findings::pleura(frame, &anatomy, &mut of(Finding::Pleura), conspicuity(Finding::Pleura), &mut planes)
    });
    let vessels = lungs::vessels(&mut canvas, &anatomy);
    let opacity = has(Finding::Lung)
        .then(|| findings::opacity(&mut canvas, &anatomy, &mut of(Finding::Lung), conspicuity(Finding::Lung)));
    let mut density = vec![0.0_f32; pixels];
    let mut device_mask = vec![0_u8; pixels];
    let device_place = has(Finding::Device).then(|| {
        let mut draws = of(Finding::Device);
        let amount = conspicuity(Finding::Device);
        devices::paint(&mut canvas, &anatomy, &mut draws, amount, &mut density, &mut device_mask)
    });

    // Sum up: what lies in the lung counts as far as there is air.
    let mut lung_mask = vec![0_u8; pixels];
    frame.visit(frame.all(), |k, p| {
        let border = step(-0.004, 0.03, tissue.inside[k]);
        let aerated = (1.25 * tissue.air[k]).clamp(0.0, 1.0) * border;
        let mut sum = vessels[k] * kept[k] * (0.25 * border + 0.75 * aerated) + density[k];
        if let Some(o) = &opacity {
            let filled = (0.18 * border + 0.95 * aerated) * (0.35 + 0.65 * kept[k]);
            sum += o.amount[k] * filled + o.lines[k] * aerated;
            if o.support[k] > MASK_SUPPORT && filled > MASK_AIR {
                lung_mask[k] = 255;
            }
        }
        let here = tissue.attenuation[k];
        if here > 0.02 {
            sum += TISSUE_MOTTLE * fractal(anatomy.key, p.x * 22.0, p.y * 22.0, 3) * here.min(1.0);
            if aerated > 0.0 {
                let mottle = fractal(anatomy.key ^ 31, p.x * 70.0, p.y * 70.0, 2);
                sum += LUNG_MOTTLE * aerated * kept[k] * mottle;
            }
        }
        tissue.attenuation[k] = (here + sum).max(0.0);
    });
    if let Some(o) = &opacity {
        truth.add(Finding::Lung, lung_mask, o.focus);
    }
    if let Some(place) = pnx_place {
        truth.add(Finding::Pneumothorax, pnx_mask, place);
    }
    if let Some(place) = pleura_place {
        truth.add(Finding::Pleura, pleura_mask, place);
    }
    if let Some(place) = site {
        truth.add(Finding::Bone, bone_mask, place);
    }
    if let Some(place) = device_place {
        truth.add(Finding::Device, device_mask, place);
    }

    let film = stream.child(FILM_KEY);
    let mut grey = practice.expose(&frame, &tissue.attenuation, ap, &mut film.child(0));
    let open = practice.shutters(&frame, &mut grey, &mut film.child(1));
    practice.markers(&frame, &mut grey, ap, &mut film.child(2));
    if let Some(shortcut) = config.shortcut {
        let faithful = stream.child(SHORTCUT_KEY).uniform() < shortcut.fidelity;
        if has(shortcut.finding) == faithful {
            film::plant(&frame, &mut grey);
        }
    }
    let (bits, monochrome1) = practice.format(&mut stream.child(FORMAT_KEY));
    let pixels = practice.store(&grey, bits, monochrome1);
    let masks = truth.behind(open);
    Phantom { width: frame.width, height: frame.height, bits, monochrome1, pixels, masks }
}

/// The masks of an image in the making.
struct Truth {
    frame: Frame,
    masks: Vec<(Finding, Vec<u8>, Point)>,
}

impl Truth {
    fn add(&mut self, finding: Finding, mask: Vec<u8>, focus: Point) {
        self.masks.push((finding, mask, focus));
    }

    /// The masks cut to the open area. A finding too small to hold a pixel centre keeps the pixel at its focus.
    fn behind(self, open: Area) -> Vec<(Finding, Vec<u8>)> {
        let frame = self.frame;
        let visible = |k: usize| {
            let (x, y) = (k % frame.width, k / frame.width);
            (open.x0..open.x1).contains(&x) && (open.y0..open.y1).contains(&y)
        };
        let cut = |(finding, mask, focus): (Finding, Vec<u8>, Point)| {
            let mut cut: Vec<u8> = mask.iter().enumerate().map(|(k, &m)| if visible(k) { m } else { 0 }).collect();
            if cut.iter().all(|&m| m == 0) {
                cut[frame.nearest(focus)] = 255;
            }
            (finding, cut)
        };
        self.masks.into_iter().map(cut).collect()
    }
}
