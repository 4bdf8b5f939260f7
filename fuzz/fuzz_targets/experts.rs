//! Experts' masks and boxes: COCO and CheXlocalize JSON with run lengths, and tables.
#![no_main]

use chestnut_fuzz::{calm, known, with_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    with_file("json", data, |path| {
        let _ = chestnut::explain::experts::read(path, known());
    });
});
