//! What the fuzz targets share: files for readers that want a path, and things to be read against.
//!
//! A target fails on a panic that leaves our readers, on memory beyond the limit and on time beyond the limit. Panics of
//! others' decoders are caught by our readers on purpose, so the hook that would end the process at once is replaced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock};

use chestnut::cohort::LabelSet;
use chestnut::explain::experts::{Known, KnownImage};
use chestnut_zoo::read::{ReadOptions, read};

/// Largest weight file that is tried, bytes; larger ones only take longer.
const MAX_WEIGHT_BYTES: u64 = 1 << 24;

/// Lets caught panics pass; those that nobody catches still end the process, in libfuzzer-sys itself.
pub fn calm() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

/// A folder of this process, in memory where there is such a place.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let folder = root.join(format!("chestnut-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for files");
        folder
    })
}

/// Calls `f` with a file of this content.
pub fn with_file(ending: &str, data: &[u8], f: impl FnOnce(&Path)) {
    let path = folder().join(format!("input.{ending}"));
    std::fs::write(&path, data).expect("the folder can be written to");
    f(&path);
}

/// Calls `f` with a study's folder whose study.toml has this content.
pub fn with_study(data: &[u8], f: impl FnOnce(&Path)) {
    std::fs::write(folder().join("study.toml"), data).expect("the folder can be written to");
    f(folder());
}

/// Calls `f` with a folder in which the file `name`, which may lie in a folder of its own, has this content. It is
/// removed afterwards; what `f` wrote itself stays.
pub fn with_kept(name: &str, data: &[u8], f: impl FnOnce(&Path)) {
    let root = folder().join("kept");
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(&root)).expect("a folder for files");
    std::fs::write(&path, data).expect("the folder can be written to");
    f(&root);
    let _ = std::fs::remove_file(&path);
}

/// A folder in which nothing lies.
pub fn empty() -> &'static Path {
    static EMPTY: OnceLock<PathBuf> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let empty = folder().join("empty");
        std::fs::create_dir_all(&empty).expect("a folder without files");
        empty
    })
}

/// `metrics.json` of a comparison without any approach.
pub const NOTHING_COMPARED: &[u8] = br#"{"version":"0","title":"t","labels":["A"],"images":1,"patients":1,"rejects":[],
"warnings":[],"unit":"patient","seed":0,"parts":[],"recipe":[],"recipe_hash":"0","networks":[],"settings":[],"methods":[],
"as_published":false,"details":[],"differences":[],"subgroups":[],"learning":[],"timings":[],"seconds":[]}"#;

/// Reads a weight file, as `models add` does first.
pub fn weights(data: &[u8]) {
    with_file("weights", data, |path| {
        let _ = read(path, &ReadOptions { max_file_bytes: MAX_WEIGHT_BYTES, ..ReadOptions::default() });
    });
}

/// Label sets by which tables are read: with and without words.
pub fn sets() -> &'static [LabelSet] {
    static SETS: OnceLock<Vec<LabelSet>> = OnceLock::new();
    SETS.get_or_init(|| {
        let words = LabelSet::from_columns(&["Pleura", "Lung"]).expect("two labels");
        vec![words, LabelSet::hum_cxr(), LabelSet::chexpert()]
    })
}

/// Images and labels that experts' files may name.
pub fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let image = |id: &str| KnownImage { id: id.to_owned(), width: 50, height: 40 };
        let labels = ["PNX".to_owned(), "Lung".to_owned()];
        Known::new(vec![image("a.png"), image("sub/b.png")], &labels, &BTreeMap::new()).expect("no renamed label")
    })
}
