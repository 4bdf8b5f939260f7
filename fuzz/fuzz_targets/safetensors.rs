//! Safetensors weight files.
#![no_main]

use chestnut_fuzz::{calm, weights};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    calm();
    if data.get(8) != Some(&b'{') {
        return Corpus::Reject;
    }
    weights(data);
    Corpus::Keep
});
