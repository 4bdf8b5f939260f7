//! The files of a study that people edit: study.toml, cohort.csv, rejects.csv and split.csv; the input is one of them.
#![no_main]

use chestnut_fuzz::{calm, with_study};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    use chestnut::cohort::{Cohort, Split};
    use chestnut::compare::PARTS;
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Cohort::from_csv(text, "item,row,stage,reason\n");
        let _ = Cohort::from_csv(
            "image,row,patient,view,age_years,sex,manufacturer,width,height,bits,format,sha256\n",
            text,
        );
        let _ = Split::from_csv(text, &PARTS.map(str::to_owned));
    }
    with_study(data, |study| {
        let _ = chestnut::study::Study::open(study);
    });
});
