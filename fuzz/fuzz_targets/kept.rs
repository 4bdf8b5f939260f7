//! Files that a study keeps for later commands; the first byte says which of them the rest is.
#![no_main]

use chestnut::{fuzzing, report};
use chestnut_fuzz::{NOTHING_COMPARED, calm, with_kept};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

/// The report of a study in which nothing was compared, with what its other files say.
fn page(root: &Path) {
    with_kept("metrics.json", NOTHING_COMPARED, |_| {
        report::renew(root).expect("whatever a file says, the page is made");
    });
}

fuzz_target!(|data: &[u8]| {
    calm();
    let Some((&kind, content)) = data.split_first() else { return };
    let text = std::str::from_utf8(content).unwrap_or_default();
    match kind % 9 {
        0 => {
            let _ = fuzzing::model_index(content);
        }
        1 => {
            let _ = fuzzing::tuned(text);
        }
        2 => {
            let _ = fuzzing::search_scores(text);
        }
        3 => {
            let _ = fuzzing::finetuned(text);
        }
        4 => with_kept("metrics.json", content, |root| {
            let _ = report::renew(root);
        }),
        5 => with_kept("manifest.json", content, page),
        6 => with_kept("explain/summary.json", content, page),
        7 => with_kept(".lock", content, |root| {
            let _ = chestnut::lock::state(root);
        }),
        _ => with_kept(".pseudonym-key", content, |root| {
            let _ = chestnut::study::Study::pseudonym_key(root);
        }),
    }
});
