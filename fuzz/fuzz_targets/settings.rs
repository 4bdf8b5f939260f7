//! TOML that users write: label sets and maps, selection rules, blank regions, grids, records of networks.
#![no_main]

use chestnut_fuzz::{calm, with_kept};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = chestnut::cohort::LabelSet::from_toml(text);
        let _ = chestnut::cohort::LabelMap::from_toml(text);
        let _ = chestnut::cohort::rules::SelectionRules::from_toml(text);
        let _ = chestnut::cohort::BlankRules::from_toml(text);
        let _ = chestnut::forest::Grid::from_toml(text);
    }
    with_kept("net/model.toml", data, |models| {
        if let Ok(record) = chestnut_zoo::store::record(models, "net") {
            record.paths().expect("it was checked");
        }
    });
});
