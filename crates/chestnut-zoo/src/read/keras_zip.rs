//! Zip archives: Keras 3's `.keras`, and the way into PyTorch's `.pt`.
//!
//! A `.keras` holds `config.json` and `model.weights.h5`, usually stored without compression. Sizes are checked
//! against the archive's length, a limit and a highest ratio before anything is unpacked; checksums while unpacking.

use super::{
    MAX_HEADER_BYTES, MAX_TENSORS, MAX_WEIGHT_FILE_BYTES, ReadError, SourceModel, keras_config, keras_h5, torch, within,
};
use std::fs::File;
use std::io::{BufReader, Cursor, Read as _};
use std::path::Path;

/// Highest ratio of unpacked to packed size; weights hardly compress at all.
const MAX_ZIP_RATIO: u64 = 200;

/// A zip archive and the length of its file.
pub(super) struct Archive {
    zip: zip::ZipArchive<BufReader<File>>,
    length: u64,
}

impl Archive {
    /// Reads the directory of an archive.
    pub(super) fn open(file: File, length: u64) -> Result<Self, ReadError> {
        let zip =
            zip::ZipArchive::new(BufReader::new(file)).map_err(|e| ReadError::Broken(format!("zip archive: {e}")))?;
        within("the number of entries in the archive", zip.len() as u64, MAX_TENSORS as u64)?;
        Ok(Self { zip, length })
    }

    /// Whether an entry exists.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.zip.index_for_name(name).is_some()
    }

    /// The first entry whose name ends like this.
    pub(super) fn ending(&self, end: &str) -> Option<String> {
        self.zip.file_names().flatten().find(|name| name.ends_with(end)).map(|name| name.into_owned())
    }

    /// An entry, unpacked; at most `limit` bytes.
    pub(super) fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ReadError> {
        let broken = |what: String| ReadError::Broken(format!("zip entry {name}: {what}"));
        let member = self.zip.by_name(name).map_err(|e| broken(e.to_string()))?;
        let (size, packed) = (member.size(), member.compressed_size());
        if packed > self.length {
            return Err(broken("longer than the archive".into()));
        }
        within(&format!("the size of zip entry {name} in bytes"), size, limit)?;
        let unpacked_limit = packed.saturating_mul(MAX_ZIP_RATIO).saturating_add(1 << 16);
        within(&format!("the unpacked size of zip entry {name} in bytes"), size, unpacked_limit)?;
        let mut bytes = Vec::new();
        let expected = usize::try_from(size).map_err(|e| broken(e.to_string()))?;
        bytes.try_reserve_exact(expected).map_err(|e| broken(e.to_string()))?;
        // One byte more than announced, so that the end is reached and the checksum compared.
        member.take(size.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| broken(e.to_string()))?;
        if bytes.len() != expected {
            return Err(broken(format!("{} bytes instead of {expected}", bytes.len())));
        }
        Ok(bytes)
    }
}

/// Reads a `.keras` or `.pt` file.
pub(super) fn read(file: File, length: u64, path: &Path) -> Result<SourceModel, ReadError> {
    let mut archive = Archive::open(file, length)?;
    if archive.contains("config.json") && archive.contains("model.weights.h5") {
        let config = keras_config::parse(&archive.entry("config.json", MAX_HEADER_BYTES)?)?;
        let weights = archive.entry("model.weights.h5", MAX_WEIGHT_FILE_BYTES)?;
        drop(archive);
        let length = weights.len() as u64;
        let h5 = keras_h5::open(Cursor::new(weights), length)?;
        return keras_h5::named_variables(&h5, &config);
    }
    match archive.ending("data.pkl") {
        Some(index) => torch::read(&mut archive, &index),
        None => Err(ReadError::UnknownFormat { file: path.display().to_string() }),
    }
}
