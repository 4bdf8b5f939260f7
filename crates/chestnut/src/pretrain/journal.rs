//! The log of a run: one JSON object a line, only ever appended to.
//!
//! A checkpoint holds the log's length; a resumed run cuts the log there, because the updates after it are done again. Wall
//! times stand in the log alone, so that two runs of the same settings differ nowhere else.

use super::error::{PretrainError, Result};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// An open log.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Journal {
    /// Opens the log and cuts it to `bytes`, or to what there is.
    pub(super) fn open(path: &Path, bytes: u64) -> Result<Self> {
        let failed = PretrainError::io(path);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(&failed)?;
        let bytes = bytes.min(file.metadata().map_err(&failed)?.len());
        file.set_len(bytes).map_err(&failed)?;
        file.seek(SeekFrom::Start(bytes)).map_err(&failed)?;
        Ok(Self { file, path: path.to_path_buf(), bytes })
    }

    /// Appends a line.
    pub(super) fn line(&mut self, value: &Value) -> Result<()> {
        let text = format!("{value}\n");
        self.file.write_all(text.as_bytes()).map_err(PretrainError::io(&self.path))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Length, once everything is on the disk.
    pub(super) fn synced(&self) -> Result<u64> {
        self.file.sync_data().map_err(PretrainError::io(&self.path))?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_resumed_log_is_cut_where_the_checkpoint_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("log.jsonl");
        let mut log = Journal::open(&path, 0).expect("made");
        log.line(&json!({"a": 1})).expect("written");
        let bytes = log.synced().expect("synced");
        log.line(&json!({"b": "lost\nwith the kill"})).expect("written");
        drop(log);
        let mut log = Journal::open(&path, bytes).expect("cut");
        log.line(&json!({"c": 3})).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "{\"a\":1}\n{\"c\":3}\n");
        // A log that someone shortened is no reason to stop.
        std::fs::write(&path, "").expect("emptied");
        assert_eq!(Journal::open(&path, bytes).expect("opened").bytes, 0);
    }
}
