//! TOML that users write: label sets and maps, selection rules, blank regions, grids.
#![no_main]

use chestnut_fuzz::calm;
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
});
