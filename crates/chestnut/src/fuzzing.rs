//! Entrances for the fuzz targets in `fuzz/`: readers that have no public function of their own.
//!
//! No part of the interface: this module may change or vanish at any time.

use std::path::Path;

/// Most members of an archive that are read.
const MAX_READ: usize = 64;

/// Lists the archive (or folder) at `path` and reads its first members; gives how many could be read.
#[must_use]
pub fn archive(path: &Path) -> usize {
    let Ok(listing) = crate::cohort::source::list(path, Path::new("labels.csv")) else { return 0 };
    listing.sources.iter().take(MAX_READ).filter(|source| source.read().is_ok()).count()
}

/// Reads the shard of embeddings at `path`; gives the number of its images if it can be read.
#[must_use]
pub fn shard(path: &Path) -> Option<usize> {
    crate::embed::images_in_shard(path)
}
