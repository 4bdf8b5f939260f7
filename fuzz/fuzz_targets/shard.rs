//! Parquet shards of embeddings.
#![no_main]

use chestnut_fuzz::{calm, with_file};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    calm();
    with_file("parquet", data, |path| {
        let _ = chestnut::fuzzing::shard(path);
    });
});
