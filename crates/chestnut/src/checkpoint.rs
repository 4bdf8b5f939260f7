//! Everything that a training run needs to go on, in one safetensors file: groups of tensors, and texts in its metadata.
//!
//! The format that `pretrain` and `finetune` share. All values are F32, and the JSON of the texts keeps every bit of an
//! f64, so that a run goes on in the same bits. The file is replaced whole or not at all. What the texts mean, and whether
//! the checkpoint is of the same request, is for those who read it.

use chestnut_zoo::Weights;
use chestnut_zoo::read::safetensors::{read_safetensors, write_safetensors};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Replaces the file; each group's name stands before the names of its tensors.
///
/// # Errors
/// Any I/O error, without the file's name.
pub(crate) fn write<const N: usize>(
    path: &Path,
    texts: &BTreeMap<String, String>,
    groups: [(&str, Weights); N],
) -> io::Result<()> {
    let mut all = Weights::new();
    for (kind, tensors) in groups {
        all.extend(tensors.into_iter().map(|(name, tensor)| (format!("{kind}{name}"), tensor)));
    }
    write_safetensors(path, &all, texts, false)
}

/// Reads the texts, and the tensors of each group.
///
/// # Errors
/// What is wrong, without the file's name: it cannot be read, or holds a tensor of no group.
pub(crate) fn read<const N: usize>(
    path: &Path,
    kinds: [&str; N],
) -> Result<(BTreeMap<String, String>, [Weights; N]), String> {
    // Asked before opening: opening a named pipe would wait for ever.
    if !path.is_file() {
        return Err("is no regular file".to_owned());
    }
    let contents = read_safetensors(path).map_err(|e| e.to_string())?;
    let mut groups: [Weights; N] = std::array::from_fn(|_| Weights::new());
    for (name, tensor) in contents.tensors {
        let found = kinds.iter().enumerate().find_map(|(i, kind)| Some((i, name.strip_prefix(*kind)?)));
        let Some((group, rest)) = found else {
            return Err(format!("holds the tensor {name:?}, which is no part of a checkpoint"));
        };
        groups[group].insert(rest.to_owned(), tensor);
    }
    Ok((contents.metadata, groups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chestnut_zoo::Tensor;

    #[test]
    fn groups_and_texts_come_back_and_strangers_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.safetensors");
        let tensors = |v: f32| {
            let tensor = Tensor { shape: vec![2], data: vec![v, f32::MIN_POSITIVE / 2.0] };
            Weights::from([("head.0.kernel".to_owned(), tensor)])
        };
        let texts = BTreeMap::from([("key".to_owned(), "a \"text\"\n".to_owned())]);
        write(&path, &texts, [("a/", tensors(0.1)), ("b/", Weights::new())]).expect("written");
        let read_back = read(&path, ["a/", "b/"]).expect("read");
        assert_eq!(read_back, (texts.clone(), [tensors(0.1), Weights::new()]));
        assert!(read(&path, ["b/", "c/"]).expect_err("no such group").contains("a/head.0.kernel"));
        let bytes = std::fs::read(&path).expect("bytes");
        for cut in [0, 7, 8, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..cut]).expect("cut");
            assert!(read(&path, ["a/", "b/"]).is_err(), "{cut} bytes");
        }
        assert!(read(folder.path(), ["a/"]).expect_err("a folder").contains("no regular file"));
    }
}
