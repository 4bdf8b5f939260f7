//! Files that are either whole or absent.
//!
//! Every artefact of a study is written to a temporary sibling, synced and renamed, so that a
//! killed run leaves the old file or the new one and never half of either.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Writes `bytes` to `path` atomically: temporary sibling, sync, rename.
///
/// # Errors
/// Any I/O error; the message names `path`. A temporary file that could not be renamed is removed.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic_with(path, |file| file.write_all(bytes))
}

/// Like [`write_atomic`], but `fill` writes the content, so that it need not be in memory at once.
///
/// # Errors
/// As [`write_atomic`], and whatever `fill` returns.
pub fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".chestnut-").tempfile_in(folder).map_err(named)?;
    fill(temporary.as_file_mut()).map_err(named)?;
    temporary.as_file().sync_all().map_err(named)?;
    // A tempfile is private to its owner; results are as readable as any file the user makes.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = 0o666 & !umask();
        temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).map_err(named)?;
    }
    temporary.persist(path).map_err(|e| named(e.error))?;
    Ok(())
}

/// Writes a file that only its owner may read, atomically.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file is private to its owner from the start.
    let mut temporary = tempfile::Builder::new().prefix(".chestnut-").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// The process's umask, read from the kernel's own table where there is one; 022 elsewhere.
#[cfg(unix)]
fn umask() -> u32 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|s| s.lines().find_map(|l| l.strip_prefix("Umask:").map(|v| v.trim().to_owned())))
        .and_then(|v| u32::from_str_radix(&v, 8).ok())
        .unwrap_or(0o022)
}

/// Creates `folder` and checks that a file can be made in it, so that a bad path fails before the work.
///
/// # Errors
/// If the folder cannot be made or written to; the message names it.
pub fn create_writable_folder(folder: &Path) -> io::Result<()> {
    let named = |e: io::Error| {
        io::Error::new(
            e.kind(),
            format!("cannot write into {}: {e}; choose another output folder with -o", folder.display()),
        )
    };
    std::fs::create_dir_all(folder).map_err(named)?;
    tempfile::Builder::new().prefix(".chestnut-probe-").tempfile_in(folder).map_err(named)?;
    Ok(())
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from_digit(u32::from(d), 16).unwrap_or('0')).collect()
}

/// The bytes of a regular file that has at most `limit` of them.
///
/// # Errors
/// What is wrong with it, to follow its name.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    // Asked before opening: opening a named pipe would wait for ever.
    if !path.is_file() {
        return Err("is no regular file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| format!("cannot be read: {e}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("has more than the {limit} bytes that are read"));
    }
    Ok(bytes)
}

/// The bytes of hexadecimal digits; `None` if there are others.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|d| (d[0] * 16 + d[1]) as u8).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_and_leaves_no_trace_of_failure() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("table.csv");
        write_atomic(&path, b"old").expect("first write");
        let failed = write_atomic_with(&path, |f| {
            f.write_all(b"half")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.expect_err("must fail").to_string().contains("table.csv"));
        assert_eq!(std::fs::read(&path).expect("still there"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 1);
    }
}
