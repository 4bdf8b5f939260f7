//! Experts' masks and boxes: COCO and CheXlocalize JSON with run lengths, tables, and PNG masks.
#![no_main]

use chestnut_fuzz::{calm, known, with_file, with_kept};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    with_file("json", data, |path| {
        let _ = chestnut::explain::experts::read(path, known());
    });
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        with_kept("masks/a_PNX.png", data, |root| {
            let _ = chestnut::explain::experts::read(&root.join("masks"), known());
        });
    }
});
