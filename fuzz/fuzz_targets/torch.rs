//! PyTorch weight files, archives and old pickles, and Keras archives, which are zip files too.
#![no_main]

use chestnut_fuzz::{calm, weights};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    calm();
    if !data.starts_with(b"PK\x03\x04") && data.first() != Some(&0x80) {
        return Corpus::Reject;
    }
    weights(data);
    Corpus::Keep
});
