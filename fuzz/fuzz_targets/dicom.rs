//! DICOM files: header, facts, stored values and the whole way to grey values.
#![no_main]

use chestnut_fuzz::{calm, with_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    let _ = chestnut::image::dicom::facts(data);
    let _ = chestnut::image::dicom::stored_values(data);
    let _ = chestnut::image::decode(data);
    with_file("dcm", data, |path| {
        let _ = chestnut::image::dicom::header(path);
    });
});
