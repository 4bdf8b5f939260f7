//! Tests of the recipe: what TensorFlow and Keras give, edge cases, the hash, settings as text.

use super::super::Voi;
use super::*;

/// The image that `scripts/oracle_recipe.py` makes by the same formula.
fn formula(width: usize, height: usize) -> Radiograph {
    let pixel = |x: usize, y: usize| {
        let v = (x * 37 + y * 101 + (x * y) % 17 * 13) % 1021;
        if (x * 7 + y * 3).is_multiple_of(211) { v + 3000 } else { v + 50 }
    };
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y) as f32)).collect();
    Radiograph { width, height, pixels, bits: 12 }
}

#[derive(Deserialize)]
struct Oracle {
    cases: Vec<Case>,
    standardised: Vec<Standardised>,
}

#[derive(Deserialize)]
struct Case {
    width: usize,
    height: usize,
    clip_quantile: f64,
    scale: Scale,
    size: usize,
    clip_value: f64,
    grey: Vec<f32>,
}

#[derive(Deserialize)]
struct Standardised {
    name: Standardisation,
    grey: Vec<f32>,
    out: Vec<f32>,
}

fn oracle() -> Oracle {
    serde_json::from_str(include_str!("../../../tests/oracle_recipe.json")).expect("the committed oracle")
}

#[test]
fn equals_numpy_and_tensorflow() {
    let oracle = oracle();
    assert!(oracle.cases.len() >= 4);
    for case in &oracle.cases {
        let (clip_quantile, scale, size) = (case.clip_quantile, case.scale, case.size);
        let recipe = Recipe { clip_quantile, scale, size, ..Recipe::default() };
        let prepared = recipe.prepare(&formula(case.width, case.height));
        let what = format!("{} x {} {:?}", case.width, case.height, recipe);
        assert!((f64::from(prepared.high) - case.clip_value).abs() < 1e-3, "{what}: clip {}", prepared.high);
        assert_eq!(prepared.grey.len(), case.grey.len(), "{what}");
        let unit = if case.scale == Scale::None { 4095.0 } else { 1.0 };
        for (i, (&a, &b)) in prepared.grey.iter().zip(&case.grey).enumerate() {
            assert!((a - b).abs() <= 1e-6 * unit, "{what}: pixel {i} is {a}, expected {b}");
        }
    }
}

#[test]
fn standardisations_equal_keras() {
    for case in oracle().standardised {
        let mut out = vec![0.0; case.grey.len() * case.name.channels()];
        case.name.apply(&case.grey, &mut out);
        assert_eq!(out.len(), case.out.len(), "{}", case.name);
        for (a, b) in out.iter().zip(&case.out) {
            assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{}: {a}, expected {b}", case.name);
        }
    }
}

#[test]
fn an_image_flat_after_clipping_becomes_zero() {
    let mut image = Radiograph { width: 40, height: 40, pixels: vec![7.0; 1600], bits: 8 };
    let recipe = Recipe { clip_quantile: 0.9, ..Recipe::default() };
    image.pixels[3] = 200.0;
    assert!(recipe.prepare(&image).grey.iter().all(|&v| v == 0.0));
}

#[test]
fn the_hash_names_the_numbers() {
    let paper = Recipe::default();
    assert_eq!(paper.hash().len(), 16);
    assert_ne!(paper.hash(), Recipe { clip_quantile: 1.0, ..paper.clone() }.hash());
    assert_ne!(paper.hash(), Recipe { scale: Scale::Bits, ..paper.clone() }.hash());
    assert_ne!(paper.hash(), Recipe { size: 299, ..paper.clone() }.hash());
    assert!(paper.describe()[0].contains("0.9995"));
    // Studies of the first versions carry this hash; it must not change while the numbers do not.
    assert_eq!(paper.hash(), "f5afb81e47335903");
    let unpadded = PixelSettings { padding: false, ..PixelSettings::default() };
    let windowed = PixelSettings { voi: Voi::Window, ..PixelSettings::default() };
    assert_ne!(paper.hash(), Recipe { pixels: unpadded, ..paper.clone() }.hash());
    assert_ne!(paper.hash(), Recipe { pixels: windowed, ..paper.clone() }.hash());
    assert!(!toml::to_string(&paper).expect("serialises").contains("pixels"), "old study files stay as they are");
}

#[test]
fn settings_survive_toml_and_bad_ones_are_named() {
    let pixels = PixelSettings { voi: Voi::Window, padding: true };
    let recipe = Recipe { clip_quantile: 1.0, scale: Scale::Bits, size: 299, pixels };
    let text = toml::to_string(&recipe).expect("serialises");
    assert_eq!(toml::from_str::<Recipe>(&text).expect("parses"), recipe);
    assert_eq!(toml::from_str::<Recipe>("").expect("defaults"), Recipe::default());
    assert!(toml::from_str::<Recipe>("sise = 3").is_err());
    assert!(Recipe { clip_quantile: f64::NAN, ..Recipe::default() }.check().is_err());
    assert_eq!(Recipe { size: 1, ..Recipe::default() }.check(), Err(RecipeError::Size(1)));
    assert_eq!("keras-tf".parse::<Standardisation>(), Ok(Standardisation::KerasTf));
    assert!("Keras".parse::<Standardisation>().is_err());
}
