//! A cache is what the recipe makes of the files as they are now, however it came about.

use super::super::set::Cell;
use super::*;
use ::image::GrayImage;
use std::time::Duration;

/// `count` films of 40 x 40 pixels: labels alternate, and positive films are brighter below.
pub(in super::super) fn films(folder: &Path, count: usize) -> TrainingSet {
    let samples = (0..count).map(|i| {
        let positive = i % 2 == 1;
        let film = GrayImage::from_fn(40, 40, |x, y| {
            let noise = (x as usize * 7 + y as usize * 13 + i * 29) % 40;
            let step = if (y < 20) == positive { 0 } else { 150 };
            ::image::Luma([(noise + step) as u8])
        });
        let id = format!("{i}.png");
        film.save(folder.join(&id)).expect("written");
        let cells = vec![if positive { Cell::Positive } else { Cell::Negative }];
        Sample { file: folder.join(&id), id, patient: format!("p{i}"), part: None, cells }
    });
    TrainingSet { name: "films".into(), labels: vec!["Bright".into()], samples: samples.collect(), notes: Vec::new() }
}

fn recipe(size: usize) -> Recipe {
    Recipe { size, ..Recipe::default() }
}

#[test]
fn pixels_are_the_recipes_and_a_second_opening_decodes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut set = films(folder.path(), 5);
    set.samples[3].file = folder.path().join("absent.png");
    let place = folder.path().join("cache");
    let cache = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("made");
    assert_eq!(cache.there(), [true, true, true, false, true]);
    assert_eq!(cache.refused().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["3.png"]);
    let mut pixels = vec![0; 32 * 32];
    cache.read(4, &mut pixels).expect("read");
    let decoded = image::read_with(&set.samples[4].file, &recipe(32).pixels).expect("decoded");
    let grey = recipe(32).prepare(&decoded.radiograph).grey;
    assert!(pixels.iter().zip(&grey).all(|(&p, &g)| (f32::from(p) / 255.0 - g).abs() <= 0.5 / 255.0 + 1e-6));
    let again = Cache::open(&place, &set, &recipe(32), &|_, _| panic!("nothing to decode")).expect("opened");
    assert_eq!((again.refused(), again.key()), (cache.refused(), cache.key()));
    // Without the list, and with one of something else, the refused image is still known.
    let list = cache.path.with_extension("refused.csv");
    assert!(list.is_file());
    for text in [None, Some(""), Some("image,reason\n1.png,no\n\"../x\",why\n"), Some("image\n3.png\n")] {
        match text {
            Some(text) => std::fs::write(&list, text).expect("written"),
            None => std::fs::remove_file(&list).expect("removed"),
        }
        let found = Cache::open(&place, &set, &recipe(32), &|_, _| panic!("nothing to decode")).expect("opened");
        assert_eq!(found.refused().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["3.png"], "{text:?}");
    }
    let other = Cache::open(&place, &set, &recipe(40), &|_, _| {}).expect("made");
    assert_ne!(other.key(), cache.key());
}

#[test]
fn a_killed_build_goes_on_and_gives_the_same_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = films(folder.path(), 3);
    let whole = Cache::open(&folder.path().join("a"), &set, &recipe(32), &|_, _| {}).expect("made");
    let bytes = std::fs::read(&whole.path).expect("read");
    // As if killed after the first image.
    let place = folder.path().join("b");
    std::fs::create_dir(&place).expect("made");
    let mut part = bytes.clone();
    let pixels = pixels_at(3) as usize;
    part[entry_at(1) as usize..pixels].fill(0);
    part[pixels + 1024..].fill(0);
    let unfinished = Path::new(whole.path.file_name().expect("a name")).with_extension("part");
    std::fs::write(place.join(&unfinished), &part).expect("written");
    let resumed = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("finished");
    assert!(std::fs::read(&resumed.path).expect("read") == bytes);
    // A part of another length is made anew.
    let place = folder.path().join("c");
    std::fs::create_dir(&place).expect("made");
    std::fs::write(place.join(&unfinished), &bytes[..70]).expect("written");
    let anew = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("made");
    assert!(std::fs::read(&anew.path).expect("read") == bytes);
    std::fs::write(&anew.path, &bytes[..70]).expect("written");
    let error = Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect_err("damaged").to_string();
    assert!(error.contains("remove it"), "{error}");
}

#[test]
fn changed_images_are_decoded_again_and_touched_ones_are_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let set = films(folder.path(), 3);
    let place = folder.path().join("cache");
    let film = &set.samples[1].file;
    let [one, two] = [1, 2].map(|i: usize| std::fs::read(&set.samples[i].file).expect("read"));
    // Always of the same size: nothing that follows a PNG's end is read.
    let put = |content: &[u8], seconds: u64| {
        let mut bytes = content.to_vec();
        bytes.resize(one.len().max(two.len()), 0);
        std::fs::write(film, &bytes).expect("written");
        let file = OpenOptions::new().write(true).open(film).expect("opened");
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).expect("its time");
    };
    let open = || Cache::open(&place, &set, &recipe(32), &|_, _| {}).expect("made");
    let pixels = |cache: &Cache, row: usize| {
        let mut pixels = vec![0; 32 * 32];
        cache.read(row, &mut pixels).expect("read");
        pixels
    };
    put(&one, 1_000_000);
    let first = open();
    let before = pixels(&first, 1);
    // A wrong square shows whether the file was decoded again.
    let mut bytes = std::fs::read(&first.path).expect("read");
    let at = pixels_at(3) as usize + 1024;
    bytes[at] ^= 255;
    std::fs::write(&first.path, &bytes).expect("written");
    put(&one, 2_000_000);
    let touched = open();
    assert_eq!(touched.key(), first.key());
    assert_ne!(pixels(&touched, 1), before, "the same content is not decoded again");
    Cache::open(&place, &set, &recipe(32), &|_, _| panic!("its new time is known")).expect("opened");
    put(&two, 3_000_000);
    let changed = open();
    assert_ne!(changed.key(), first.key());
    assert_eq!(pixels(&changed, 1), pixels(&changed, 2), "the same film");
    std::fs::remove_file(film).expect("removed");
    let without = open();
    assert_eq!((without.there(), without.refused()[0].id.as_str()), (&[true, false, true][..], "1.png"));
    put(&two, 4_000_000);
    let restored = open();
    assert_eq!((restored.key(), restored.refused().len()), (changed.key(), 0));
    assert_eq!(pixels(&restored, 1), pixels(&restored, 2));
}
