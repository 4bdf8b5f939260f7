//! zip and tar archives: index and members.
#![no_main]

use chestnut_fuzz::{calm, with_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    with_file("archive", data, |path| {
        let _ = chestnut::fuzzing::archive(path);
    });
});
