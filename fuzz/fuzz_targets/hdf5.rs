//! HDF5 weight files of Keras.
#![no_main]

use chestnut_fuzz::{calm, weights};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    calm();
    if !data.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Corpus::Reject;
    }
    weights(data);
    Corpus::Keep
});
