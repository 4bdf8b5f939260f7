use super::*;
use crate::cohort::tests::image;

/// Two images of 40 x 40 pixels; maps of image `a.png` point to the upper left quarter, those of `b.png` nowhere.
fn explained() -> Explained {
    let mut images = vec![image("a.png", "P1", "++"), image("b.png", "P2", "+-")];
    images.iter_mut().for_each(|i| (i.width, i.height) = (40, 40));
    let label_names = vec!["Lung".to_owned(), "PNX".to_owned(), "Bone".to_owned()];
    let cohort = Cohort { label_names, images, rejects: Vec::new(), warnings: Vec::new() };
    let map = |row: usize| {
        let values = (0..16).map(|i| if row == 0 && i % 4 < 2 && i / 4 < 2 { 1.0 + i as f32 / 16.0 } else { 0.0 });
        HeatMap::new(4, 4, values.collect()).expect("whole")
    };
    let maps = |row: usize| ImageMaps {
        row,
        probabilities: [vec![0.5; 2], vec![0.5; 2]],
        maps: [vec![vec![map(row)]; 2], vec![vec![map(row)]; 2]],
    };
    Explained {
        labels: vec!["Lung".to_owned(), "PNX".to_owned()],
        images: vec![maps(0), maps(1)],
        refused: Vec::new(),
        cohort,
        timings: Timings::default(),
    }
}

/// A map with heat in one quarter: 0 upper left, 1 upper right, 2 lower left, 3 lower right.
pub(in crate::explain) fn map_at(quarter: usize) -> HeatMap {
    let inside = |i: usize| i % 4 / 2 == quarter % 2 && i / 4 / 2 == quarter / 2;
    HeatMap::new(4, 4, (0..16).map(|i| if inside(i) { 1.0 + i as f32 / 16.0 } else { 0.0 }).collect()).expect("whole")
}

/// Images of one patient each with a map of Lung and one of PNX, the same by both models, and their probabilities.
pub(in crate::explain) fn explained_of(maps: &[[HeatMap; 2]], probabilities: &[[f64; 2]]) -> Explained {
    let of = |(row, (maps, p)): (usize, (&[HeatMap; 2], &[f64; 2]))| {
        let maps: Vec<Vec<HeatMap>> = maps.iter().map(|m| vec![m.clone()]).collect();
        ImageMaps { row, probabilities: [p.to_vec(), p.to_vec()], maps: [maps.clone(), maps] }
    };
    let images: Vec<ImageMaps> = maps.iter().zip(probabilities).enumerate().map(of).collect();
    let labels = vec!["Lung".to_owned(), "PNX".to_owned()];
    let named = |i: usize| image(&format!("{i:02}.png"), &format!("P{i}"), "+-");
    let cohort = Cohort {
        label_names: labels.clone(),
        images: (0..maps.len()).map(named).collect(),
        rejects: Vec::new(),
        warnings: Vec::new(),
    };
    Explained { labels, images, refused: Vec::new(), cohort, timings: Timings::default() }
}

const OPTIONS: ExplainOptions =
    ExplainOptions { cam: CamKind::GradCam, mask: MaskRule::Quantile(0.8), resamples: Some(20) };

fn agreed(explained: &Explained, boxes: &str) -> Agreed {
    agreed_by(explained, boxes, &OPTIONS)
}

fn agreed_by(explained: &Explained, boxes: &str, options: &ExplainOptions) -> Agreed {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("boxes.csv");
    std::fs::write(&path, format!("image,label,x,y,width,height\n{boxes}")).expect("a file");
    agreement(explained, &path, &BTreeMap::new(), options, 0).expect("a table of boxes")
}

#[test]
fn both_maps_are_scored_beside_chance() {
    let found = agreed(&explained(), "a.png,Lung,0,0,20,20\na.png,PNX,20,20,20,20\n");
    assert_eq!(found.rows.len(), 8);
    assert!(!found.refused, "{:?}", found.messages);
    for source in SOURCES {
        let hit = |label: &str| {
            let row = found.rows.iter().find(|r| r.source == source && r.label == label).expect("scored");
            (row.agreement.hit, row.agreement.coverage)
        };
        assert_eq!(hit("Lung").0, Some(1.0), "{source}");
        assert!(hit("Lung").1 > 0.5 && hit("PNX") == (Some(0.0), 0.0), "{source}");
    }
}

#[test]
fn the_rule_asked_for_makes_the_masks_of_all_maps() {
    let shares = |mask: MaskRule| {
        let found = agreed_by(&explained(), "a.png,Lung,0,0,20,20\n", &ExplainOptions { mask, ..OPTIONS });
        assert_eq!(found.mask, mask);
        found.rows.iter().map(|r| r.agreement.mask_share).collect::<Vec<f64>>()
    };
    let (fifth, all) = (shares(MaskRule::Quantile(0.8)), shares(MaskRule::Share(1.0)));
    assert_eq!(fifth.len(), 4, "two models and two chance levels");
    assert!(fifth.iter().zip(&all).all(|(a, b)| *a <= 0.21 && a < b), "{fifth:?} {all:?}");
}

#[test]
fn empty_maps_and_items_that_fit_nothing_are_said_and_the_others_go_on() {
    let mut explained = explained();
    let boxes = "b.png,Lung,0,0,20,20\na.png,Lung,0,0,20,20\na.png,Bone,0,0,9,9\nc.png,Lung,0,0,9,9\n\
                 a.png,Nodule,0,0,9,9\n";
    let found = agreed(&explained, boxes);
    assert_eq!(found.rows.len(), 8, "two findings, two models and two chance levels");
    assert!(found.refused);
    let all = found.messages.join("\n");
    for words in
        ["2 maps are the same everywhere", "nothing was learned of Bone", "\"c.png\" is not in the study", "\"Nodule\""]
    {
        assert!(all.contains(words), "{words} in {all}");
    }
    explained.images.pop();
    let found = agreed(&explained, boxes);
    assert_eq!(found.rows.len(), 4);
    assert!(found.messages.iter().any(|m| m.starts_with("1 of 3 outlined findings lie on images")), "{found:?}");
}
