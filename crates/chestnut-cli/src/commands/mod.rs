//! One file per command.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod embed;
pub(crate) mod explain;
pub(crate) mod finetune;
pub(crate) mod ingest;
pub(crate) mod models;
pub(crate) mod phantom;
pub(crate) mod pixels;
pub(crate) mod predict;
pub(crate) mod pretrain;
pub(crate) mod tune;

use crate::args::Store;
use chestnut::lock::StudyLock;
use std::path::{Path, PathBuf};

/// Takes the study's lock for a command; it is held until the value is dropped.
pub(crate) fn locked(study: &Path, command: &str) -> anyhow::Result<StudyLock> {
    let lock = StudyLock::acquire(study, command)?;
    if let Some(warning) = lock.warning() {
        remark!("{warning}");
    }
    Ok(lock)
}

/// Folder of the model store.
pub(crate) fn models_folder(store: &Store) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &store.models {
        return Ok(folder.clone());
    }
    if let Some(folder) = std::env::var_os("CHESTNUT_MODELS").filter(|v| !v.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let data = std::env::var_os("XDG_DATA_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let data = data.or_else(|| home.map(|h| h.join(".local/share")));
    data.map(|d| d.join("chestnut/models")).ok_or_else(|| {
        anyhow::anyhow!("there is no home folder to keep networks in; name one with --models or CHESTNUT_MODELS")
    })
}
