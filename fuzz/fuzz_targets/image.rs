//! PNG and JPEG files.
#![no_main]

use chestnut_fuzz::calm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    let _ = chestnut::image::decode(data);
});
