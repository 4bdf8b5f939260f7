//! Masks of drawn maps, and the traps: ties, flat maps, nothing positive.

use super::*;
use chestnut_stats::random::Stream;

/// A map whose values are all different, in random order.
fn without_ties(draw: &mut Stream, width: usize, height: usize) -> HeatMap {
    let mut values: Vec<f32> = (0..width * height).map(|i| i as f32 - 20.0).collect();
    draw.shuffle(&mut values);
    HeatMap::new(width, height, values).expect("whole")
}

fn row(values: &[f32]) -> HeatMap {
    HeatMap::new(values.len(), 1, values.to_vec()).expect("whole")
}

fn places(mask: &Mask) -> Vec<usize> {
    (0..mask.inside.len()).filter(|&i| mask.inside[i]).collect()
}

#[test]
fn the_papers_mask_covers_a_fifth() {
    let mut draw = Stream::keyed(1, "mask");
    for _ in 0..200 {
        let (width, height) = (1 + draw.below(40), 2 + draw.below(30));
        let map = without_ties(&mut draw, width, height);
        let mask = quantile_mask(&map, PAPER_QUANTILE).expect("in range");
        let expected = 0.2 * map.values.len() as f64;
        assert!((mask.area() as f64 - expected).abs() <= 1.0, "{} of {expected}", mask.area());
        // Nothing outside is hotter than anything inside.
        let of =
            |inside: bool| map.values.iter().zip(&mask.inside).filter(move |&(_, &i)| i == inside).map(|(&v, _)| v);
        assert!(of(false).fold(f32::NEG_INFINITY, f32::max) < of(true).fold(f32::INFINITY, f32::min));
    }
}

#[test]
fn ties_and_flat_maps() {
    // Nine tenths are zero, as after a ReLU: the quantile is 0, and zeros are not evidence.
    let mut values = vec![0.0; 18];
    values.extend([1.0, 2.0]);
    assert_eq!(places(&quantile_mask(&row(&values), 0.8).expect("in range")), [18, 19]);
    // A plateau at the quantile is inside as a whole.
    let plateau = quantile_mask(&row(&[0.0, 1.0, 2.0, 2.0, 2.0, 2.0]), 0.8).expect("in range");
    assert_eq!(places(&plateau), [2, 3, 4, 5]);
    for flat in [row(&[0.0; 5]), row(&[3.0; 5]), row(&[-3.0; 5])] {
        for rule in [MaskRule::default(), MaskRule::Otsu, MaskRule::Share(0.5), MaskRule::Peak(0.5)] {
            assert_eq!(rule.mask(&flat).expect("in range").area(), 0, "{rule:?}");
        }
    }
}

#[test]
fn other_rules_by_hand() {
    let map = row(&[-4.0, 1.0, 2.0, 5.0, 2.0]);
    // Positive heat 10: 5 holds half, 5 + 2 hold 0.7, the first 2 before the second.
    assert_eq!(places(&share_mask(&map, 0.5).expect("in range")), [3]);
    assert_eq!(places(&share_mask(&map, 0.6).expect("in range")), [2, 3]);
    assert_eq!(places(&share_mask(&map, 1.0).expect("in range")), [1, 2, 3, 4]);
    assert_eq!(places(&legacy_mask(&map)), [3]);
    assert_eq!(places(&peak_mask(&map, 0.4).expect("in range")), [2, 3, 4]);
    assert_eq!(peak_mask(&row(&[-2.0, -1.0]), 0.5).expect("in range").area(), 0);
    assert_eq!(share_mask(&row(&[-2.0, -1.0]), 0.5).expect("in range").area(), 0);
    assert_eq!(places(&otsu_mask(&row(&[0.0, 0.1, 0.2, 7.9, 8.0]))), [3, 4]);
    let refused =
        [quantile_mask(&map, 1.1), quantile_mask(&map, f64::NAN), share_mask(&map, 0.0), peak_mask(&map, 1.5)];
    assert!(refused.iter().all(|r| matches!(r, Err(ExplainError::Setting { .. }))));
}

#[test]
fn rules_are_read_as_they_are_written() {
    for text in ["quantile:0.8", "quantile:0", "otsu", "share:0.1", "peak:0.5", "peak:1"] {
        assert_eq!(text.parse::<MaskRule>().map(|r| r.to_string()).as_deref(), Ok(text));
    }
    for wrong in ["", "hot", "otsu:1", "otsu:", "quantile", "quantile:", "quantile:x", "quantile:1.1", "quantile:NaN"] {
        assert!(wrong.parse::<MaskRule>().is_err(), "{wrong}");
    }
    for wrong in ["share:0", "share:-1", "peak:2", "peak", "0.8"] {
        assert!(wrong.parse::<MaskRule>().is_err(), "{wrong}");
    }
    assert_eq!(MaskRule::of(CamKind::Legacy), MaskRule::Peak(0.5), "what cam.rs says of it");
    assert_eq!([CamKind::GradCam, CamKind::HiRes].map(MaskRule::of), [MaskRule::Quantile(0.8); 2]);
    let legends = [MaskRule::default(), MaskRule::Quantile(0.9), MaskRule::Share(0.1)].map(MaskRule::legend);
    assert_eq!(legends, ["hottest fifth", "hottest 10 %", "10 % of the heat"]);
}

#[test]
fn otsu_separates_two_groups() {
    let mut draw = Stream::keyed(2, "mask");
    for _ in 0..50 {
        let hot: Vec<bool> = (0..400).map(|i| i < 3 || draw.uniform() < 0.3).collect();
        let values = hot.iter().map(|&h| (f64::from(u8::from(h)) * 6.0 + draw.range(-1.0, 1.0)) as f32).collect();
        let map = HeatMap::new(20, 20, values).expect("whole");
        assert_eq!(otsu_mask(&map).inside, hot);
    }
}

#[test]
fn components_partition_and_boxes_contain() {
    let mut draw = Stream::keyed(3, "mask");
    for case in 0..200 {
        let (width, height) = (1 + draw.below(20), 1 + draw.below(20));
        let density = draw.uniform();
        let inside = (0..width * height).map(|_| draw.uniform() < density).collect();
        let mask = Mask::new(width, height, inside).expect("whole");
        let components = mask.components();
        let mut all: Vec<usize> = components.iter().flat_map(|c| c.pixels.iter().copied()).collect();
        all.sort_unstable();
        assert_eq!(all, places(&mask), "case {case}: every pixel once");
        let mut label = vec![usize::MAX; width * height];
        for (k, component) in components.iter().enumerate() {
            for &i in &component.pixels {
                label[i] = k;
                assert!(component.region.contains(i % width, i / width));
            }
        }
        // Neighbours share their component, also across a corner.
        let inside_at = |x: usize, y: usize| mask.get(x, y).then(|| label[y * width + x]);
        for y in 0..height {
            for x in 0..width {
                for (nx, ny) in [(x + 1, y), (x, y + 1), (x + 1, y + 1)] {
                    if let (Some(a), Some(b)) = (inside_at(x, y), inside_at(nx, ny)) {
                        assert_eq!(a, b, "case {case}");
                    }
                }
                if let (Some(a), Some(b)) = (inside_at(x + 1, y), inside_at(x, y + 1)) {
                    assert_eq!(a, b, "case {case}");
                }
            }
        }
        // The whole box is as tight as can be: every side touches the mask.
        let Some(whole) = mask.bounding_box() else {
            assert_eq!(mask.area(), 0);
            continue;
        };
        assert!(places(&mask).iter().all(|&i| whole.contains(i % width, i / width)));
        let columns = [whole.x, whole.x + whole.width - 1];
        let rows = [whole.y, whole.y + whole.height - 1];
        assert!(columns.iter().all(|&x| (0..height).any(|y| mask.get(x, y))));
        assert!(rows.iter().all(|&y| (0..width).any(|x| mask.get(x, y))));
        assert_eq!(mask.regions(0.0).len(), components.len());
    }
}

#[test]
fn small_components_can_be_left_out() {
    let inside = [1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 0].map(|v| v == 1).to_vec();
    let mask = Mask::new(5, 3, inside).expect("whole");
    let block = Region { x: 0, y: 0, width: 2, height: 2 };
    assert_eq!(mask.regions(0.5), [block]);
    let single = |x, y| Region { x, y, width: 1, height: 1 };
    assert_eq!(mask.regions(0.0), [block, single(4, 0), single(3, 2)]);
    assert_eq!((block.area(), mask.area()), (4, 6));
    assert_eq!(mask.bounding_box(), Some(Region { x: 0, y: 0, width: 5, height: 3 }));
}

#[test]
fn nearest_resizing_keeps_shapes() {
    let mask = Mask::new(2, 2, vec![true, false, false, true]).expect("whole");
    let large = mask.resized_nearest(6, 4).expect("possible");
    assert_eq!(large.area(), 12);
    assert!(large.get(2, 1) && !large.get(3, 1) && large.get(5, 3) && !large.get(6, 3));
    assert_eq!(large.resized_nearest(2, 2).expect("possible"), mask);
    assert!(mask.resized_nearest(0, 3).is_err());
    assert!(Mask::new(2, 2, vec![true; 3]).is_err() && Mask::new(0, 2, vec![]).is_err());
}

#[test]
fn boxes_go_round_the_whole_mask_or_round_each_part() {
    // A part of 4 x 5 pixels, one of 3 x 1 and a speck of 1, which is less than a twentieth of the 24.
    let inside = |x: usize, y: usize| (x < 4 && y < 5) || ((10..13).contains(&x) && y == 0) || (x == 19 && y == 9);
    let mask = Mask::new(20, 10, (0..200).map(|i| inside(i % 20, i / 20)).collect()).expect("whole");
    let large = Region { x: 0, y: 0, width: 4, height: 5 };
    let small = Region { x: 10, y: 0, width: 3, height: 1 };
    assert_eq!(BoxRule::Whole.boxes(&mask), [Region { x: 0, y: 0, width: 20, height: 10 }]);
    assert_eq!(BoxRule::Parts.boxes(&mask), [large, small]);
    let empty = Mask::new(3, 2, vec![false; 6]).expect("whole");
    assert!(BoxRule::Whole.boxes(&empty).is_empty() && BoxRule::Parts.boxes(&empty).is_empty());
    assert_eq!("whole".parse(), Ok(BoxRule::Whole));
    assert_eq!("parts".parse(), Ok(BoxRule::Parts));
    assert!("round".parse::<BoxRule>().expect_err("no such kind").to_string().contains("whole or parts"));
}
