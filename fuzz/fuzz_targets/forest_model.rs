//! Model files of forests and linear probes.
#![no_main]

use chestnut_fuzz::calm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    let _ = chestnut::forest::ModelFile::from_bytes(data);
});
