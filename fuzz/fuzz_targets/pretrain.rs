//! What pretrain reads: tables of its sets, lists of patients, its cache and its checkpoints; the first byte says which of
//! them the rest is.
#![no_main]

use chestnut::fuzzing;
use chestnut::pretrain::deal::deal;
use chestnut::pretrain::set::csv::CsvOptions;
use chestnut::pretrain::set::{TrainingSet, Views, chexpert, csv, nih14};
use chestnut::pretrain::targets::{Blank, Policies, Targets, Uncertain};
use chestnut_fuzz::{calm, empty, sets, with_file};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const TABLE: &[u8] = b"image,patient_id,Pleura,Lung\na.png,1,1,0\nb.png,2,0,1\n";

/// Dealt and turned into targets, as a run does with a set that it could read.
fn used(set: &TrainingSet) {
    if set.check().is_ok() {
        let policies =
            Policies { uncertain: Uncertain::OnesSmoothed, blank: Blank::Zeros, propagate: true, conditional: true };
        let _ = deal(set, &vec![true; set.samples.len()], 0.1, 0);
        let _ = Targets::new(set, &policies, 0);
    }
}

fn table(path: &Path, split: bool) -> Option<TrainingSet> {
    let split = split.then(|| "split".to_owned());
    let options = CsvOptions { labels: sets()[0].clone(), path: None, patient: None, split };
    csv::read(path, empty(), &options).ok()
}

fuzz_target!(|data: &[u8]| {
    calm();
    let Some((&kind, content)) = data.split_first() else { return };
    match kind % 8 {
        0 | 1 => with_file("csv", content, |path| {
            table(path, kind % 8 == 1).iter().for_each(used);
        }),
        2 => with_file("csv", content, |path| {
            chexpert::read(path, empty(), Views::Frontal).iter().for_each(used);
        }),
        3 => with_file("csv", content, |path| {
            nih14::read(path, empty(), Views::All).iter().for_each(used);
        }),
        4 => {
            let mut set = None;
            with_file("csv", TABLE, |path| set = table(path, false));
            let mut set = set.expect("two rows");
            with_file("txt", content, |path| {
                let _ = set.exclude_patients(path);
            });
        }
        5 => with_file("bin", content, |path| {
            let _ = fuzzing::squares(path);
        }),
        6 => with_file("bin", content, |path| {
            let _ = fuzzing::windows(path);
        }),
        _ => with_file("safetensors", content, |path| {
            let _ = fuzzing::checkpoint(path);
        }),
    }
});
