use super::*;

const WIDTH: usize = 60;
const HEIGHT: usize = 48;

/// Black left half, white right half.
fn film() -> Radiograph {
    let pixels = (0..WIDTH * HEIGHT).map(|i| if i % WIDTH < WIDTH / 2 { 100.0 } else { 900.0 }).collect();
    Radiograph { width: WIDTH, height: HEIGHT, pixels, bits: 12 }
}

fn map(values: impl Fn(usize, usize) -> f32) -> HeatMap {
    let values = (0..WIDTH * HEIGHT).map(|i| values(i % WIDTH, i / WIDTH)).collect();
    HeatMap::new(WIDTH, HEIGHT, values).expect("whole")
}

fn pixel(image: &RgbImage, x: usize, y: usize) -> [u8; 3] {
    image.get_pixel(x as u32, y as u32).0
}

/// `part` of `above` over a grey of `below`.
fn mixed(below: f64, above: [u8; 3], part: f64) -> [u8; 3] {
    above.map(|c| ((1.0 - part) * below + part * f64::from(c)).round() as u8)
}

#[test]
fn a_bare_film_is_its_own_grey_and_size() {
    let film = film();
    let image =
        Overlay { radiograph: &film, heat: None, marks: Vec::new(), caption: Vec::new() }.draw().expect("drawn");
    assert_eq!(image.dimensions(), (WIDTH as u32, HEIGHT as u32));
    assert_eq!((pixel(&image, 0, 0), pixel(&image, WIDTH - 1, HEIGHT - 1)), ([0; 3], [255; 3]));
    let bytes = encode_png(&image).expect("a PNG");
    let back = crate::image::decode(&bytes).expect("reads back").radiograph;
    assert_eq!((back.width, back.height, back.pixels[WIDTH - 1]), (WIDTH, HEIGHT, 255.0));
    assert!(encode_png(&RgbImage::new(0, 3)).is_err());
}

#[test]
fn heat_colours_grow_opaque_with_the_value() {
    let film = film();
    let hot = map(|x, y| match (x, y) {
        (50, 10) => 4.0,
        (50, 30) | (5, 30) => 2.0,
        _ => 0.0,
    });
    fn heat(map: &HeatMap, colours: ColourMap) -> Option<Heat<'_>> {
        Some(Heat { map, colours, opacity: 0.5 })
    }
    let caption = vec!["Lung 0.91; explained: logit".to_owned()];
    let overlay = Overlay { radiograph: &film, heat: heat(&hot, ColourMap::Heat), marks: Vec::new(), caption };
    let image = overlay.draw().expect("drawn");
    let colour = |t| ColourMap::Heat.colour(t);
    assert_eq!(pixel(&image, 50, 10), mixed(255.0, colour(1.0), 0.5));
    assert_eq!(pixel(&image, 50, 30), mixed(255.0, colour(0.5), 0.25));
    assert_eq!(pixel(&image, 5, 30), mixed(0.0, colour(0.5), 0.25));
    assert_eq!((pixel(&image, 20, 20), pixel(&image, 40, 20)), ([0; 3], [255; 3]), "no heat, no colour");
    // The bar at the right, the greatest value above.
    let bar = WIDTH + BAR_GAP + BAR_WIDTH / 2;
    assert_eq!(
        (pixel(&image, bar, CHARACTER / 2), pixel(&image, bar, HEIGHT - 1 - CHARACTER / 2)),
        (colour(1.0), colour(0.0))
    );
    // 19 characters fit beside each other: two lines of caption.
    assert_eq!(image.dimensions(), ((WIDTH + BAR_STRIP) as u32, (HEIGHT + 2 * LINE + 2) as u32));

    let signed = map(|x, y| match (x, y) {
        (5, 10) => -1.0,
        (50, 10) => 4.0,
        _ => 0.0,
    });
    let image = Overlay { heat: heat(&signed, ColourMap::Signed), ..overlay.clone() }.draw().expect("drawn");
    assert_eq!(pixel(&image, 5, 10), mixed(0.0, ColourMap::Signed.colour(0.375), 0.125));
    assert_eq!(pixel(&image, 50, 10), mixed(255.0, ColourMap::Signed.colour(1.0), 0.5));
    assert_eq!(pixel(&image, 20, 20), [0; 3]);

    let flat = map(|_, _| 3.0);
    let image = Overlay { heat: heat(&flat, ColourMap::Heat), ..overlay.clone() }.draw().expect("drawn");
    assert_eq!((pixel(&image, 20, 20), pixel(&image, 40, 20)), ([0; 3], [255; 3]));
    let wrong = Some(Heat { map: &hot, colours: ColourMap::Heat, opacity: 1.5 });
    assert!(Overlay { heat: wrong, ..overlay }.draw().is_err());
}

#[test]
fn boxes_and_outlines_have_the_colours_of_their_labels() {
    let film = film();
    // A mask of half the film's size: its pixels are two wide.
    let small = (0..30 * 24).map(|i| (5..10).contains(&(i % 30)) && (5..10).contains(&(i / 30))).collect();
    let mask = Mask::new(30, 24, small).expect("whole");
    let region = Region { x: 40, y: 8, width: 10, height: 6 };
    let mark = |name: &str, shape| Mark { name: name.to_owned(), shape };
    let beyond = Region { x: 55, y: 40, width: 100, height: 100 };
    let marks =
        vec![mark("Lung", Shape::Outline(&mask)), mark("PNX", Shape::Box(region)), mark("Lung", Shape::Box(beyond))];
    let overlay = Overlay { radiograph: &film, heat: None, marks, caption: Vec::new() };
    let image = overlay.draw().expect("drawn");
    let (lung, pnx) = (label_colour(0), label_colour(1));
    for (x, y) in [(10, 10), (15, 10), (10, 15), (20, 20), (55, 47)] {
        assert_eq!(pixel(&image, x, y), lung, "{x} {y}");
    }
    for (x, y) in [(40, 8), (49, 8), (40, 13), (49, 13)] {
        assert_eq!(pixel(&image, x, y), pnx, "{x} {y}");
    }
    assert_eq!((pixel(&image, 15, 15), pixel(&image, 45, 10)), ([0; 3], [255; 3]), "inside nothing is drawn");
    assert_eq!((pixel(&image, 9, 9), pixel(&image, 50, 10)), ([0; 3], [255; 3]), "nor outside");
    assert_eq!(image.height() as usize, HEIGHT + 2 * LINE + 2, "two names in the legend");
    assert_eq!((pixel(&image, 3, HEIGHT + 3), pixel(&image, 3, HEIGHT + 3 + LINE)), (lung, pnx));
    assert!(overlay.png().expect("a PNG").starts_with(b"\x89PNG"));
}

#[test]
fn letters_grow_with_the_film_and_numbers_fit() {
    let film = Radiograph { width: 700, height: 650, pixels: (0..700 * 650).map(|i| i as f32).collect(), bits: 16 };
    let overlay = Overlay {
        radiograph: &film,
        heat: None,
        marks: Vec::new(),
        caption: vec!["one line".to_owned(), "two".to_owned()],
    };
    assert_eq!(overlay.draw().expect("drawn").dimensions(), (700, 650 + 2 * (2 * LINE as u32 + 2)));
    for (value, shown) in [(0.0, "0"), (0.5, "0.50"), (-12.5, "-12.50"), (1e-5, "1.0e-5"), (-1e5, "-1.0e5")] {
        assert_eq!(tick(value), shown);
    }
    assert_eq!(
        caption_line("Lung", Some(0.914), "7 networks", "logit"),
        "Lung 0.91; model: 7 networks; explained: logit"
    );
}
