//! Labels tables, with words and with numbers.
#![no_main]

use chestnut_fuzz::{calm, sets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    use chestnut::cohort::labels::{ColumnNames, parse_labels};
    for set in sets() {
        let _ = parse_labels("labels.csv", data, set, &ColumnNames::default());
    }
});
