//! One run at a time on a study.
//!
//! The file `.lock` of a study is locked through the operating system while a run writes into the study, so that the
//! lock ends with the process, however it ends. The file itself stays, and holds who has the lock: process, command,
//! computer, start. Where the file system knows no locks (some network drives) a run goes on with a warning, because
//! nothing can be known there. Reading a study needs no lock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Name of the lock file in a study's folder.
pub const LOCK_FILE: &str = ".lock";
/// Largest lock file that is read, bytes.
const MAX_LOCK_BYTES: u64 = 4096;

/// Who holds or held a lock, as the lock file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Process number.
    pub pid: u32,
    /// The command, such as `embed`.
    pub command: String,
    /// Name of the computer, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer: Option<String>,
    /// When it began, in UTC.
    pub since: String,
}

impl Owner {
    fn this_process(command: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Self { pid: std::process::id(), command: command.to_owned(), computer: computer(), since: utc(now) }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} (chestnut {})", self.pid, self.command)?;
        if let Some(computer) = &self.computer {
            write!(f, " on {computer}")?;
        }
        write!(f, " since {} UTC", self.since)
    }
}

/// Why a study cannot be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another run has it.
    #[error("{} is in use by {}; wait until that run is over, or end it, and try again", study.display(), named(owner))]
    Held {
        /// The study's folder.
        study: PathBuf,
        /// Who, if it can be read: some systems let nobody read a locked file.
        owner: Option<Owner>,
    },
    /// The lock file cannot be made: no such folder, or it may not be written to.
    #[error("cannot make {}: {source}; a study must lie in a folder that you may write to", path.display())]
    Folder {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else bears its name.
    #[error("{} is no regular file; remove it and try again", path.display())]
    NoFile {
        /// The lock file.
        path: PathBuf,
    },
}

fn named(owner: &Option<Owner>) -> String {
    owner.as_ref().map_or_else(|| "another run of chestnut".to_owned(), ToString::to_string)
}

/// A study that this process may write to, until this is dropped.
#[derive(Debug)]
pub struct StudyLock {
    /// `None` where the file system knows no locks.
    file: Option<File>,
    warning: Option<String>,
    crashed: Option<Owner>,
}

impl StudyLock {
    /// Locks the study in the folder `root` for `command`, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] if another run has it, also one of this process; the others if there can be no lock file.
    pub fn acquire(root: &Path, command: &str) -> Result<Self, LockError> {
        let path = root.join(LOCK_FILE);
        if fs::symlink_metadata(&path).is_ok_and(|about| !about.is_file()) {
            // A link would have us empty the file that it leads to.
            return Err(LockError::NoFile { path });
        }
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = opened.map_err(|source| LockError::Folder { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => {
                let crashed = read_owner(&mut file);
                // Who holds the lock is a courtesy; a full disk must not stop the run here.
                let _ = write_owner(&mut file, &Owner::this_process(command));
                Ok(Self { file: Some(file), warning: None, crashed })
            }
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Held { study: root.to_owned(), owner: read_owner(&mut file) })
            }
            Err(TryLockError::Error(e)) => {
                let warning = format!(
                    "{} lies where files cannot be locked ({e}): make sure that no other run of chestnut uses it",
                    root.display()
                );
                Ok(Self { file: None, warning: Some(warning), crashed: None })
            }
        }
    }

    /// What people should know: that there is no protection here.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The run before this one, if it ended without letting go of the lock, as by a crash.
    #[must_use]
    pub fn crashed(&self) -> Option<&Owner> {
        self.crashed.as_ref()
    }
}

impl Drop for StudyLock {
    fn drop(&mut self) {
        // An empty file says that the run came to its end. The file stays: removing it would let two others lock two
        // different files of that name. Closing it unlocks it.
        if let Some(file) = &self.file {
            let _ = file.set_len(0);
        }
    }
}

/// Whether a study is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LockState {
    /// Nobody has it.
    Free,
    /// Nobody has it, and the last run ended without letting go, as by a crash.
    Crashed {
        /// That run.
        owner: Owner,
    },
    /// A run has it.
    Held {
        /// Who, if it can be read.
        owner: Option<Owner>,
    },
    /// Locks do not work there, or the file cannot be read.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Looks whether the study in `root` is in use, and changes nothing.
///
/// For a moment the lock is taken as a reader's, so a run that starts in that moment may be refused.
#[must_use]
pub fn state(root: &Path) -> LockState {
    let path = root.join(LOCK_FILE);
    if fs::symlink_metadata(&path).is_ok_and(|about| !about.is_file()) {
        return LockState::Unknown { reason: format!("{} is no regular file; remove it", path.display()) };
    }
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return LockState::Free,
        Err(e) => return LockState::Unknown { reason: format!("{} cannot be read: {e}", path.display()) },
    };
    match file.try_lock_shared() {
        Ok(()) => read_owner(&mut file).map_or(LockState::Free, |owner| LockState::Crashed { owner }),
        Err(TryLockError::WouldBlock) => LockState::Held { owner: read_owner(&mut file) },
        Err(TryLockError::Error(e)) => {
            LockState::Unknown { reason: format!("files in {} cannot be locked: {e}", root.display()) }
        }
    }
}

fn read_owner(file: &mut File) -> Option<Owner> {
    let mut text = String::new();
    file.take(MAX_LOCK_BYTES).read_to_string(&mut text).ok()?;
    let owner: Owner = toml::from_str(&text).ok()?;
    // The text ends in messages: it must not steer a terminal.
    let printable = |t: &str| !t.chars().any(char::is_control);
    (printable(&owner.command) && printable(&owner.since) && owner.computer.as_deref().is_none_or(printable))
        .then_some(owner)
}

fn write_owner(file: &mut File, owner: &Owner) -> io::Result<()> {
    let text = toml::to_string(owner).map_err(io::Error::other)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.flush()
}

/// Name of this computer, from the kernel or the environment.
fn computer() -> Option<String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("COMPUTERNAME").ok()).or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().chars().filter(|c| !c.is_control()).take(64).collect()).filter(|n: &String| !n.is_empty())
}

/// `2026-03-01 14:05:09` from seconds since 1970: the Gregorian calendar counted in years that begin in March.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Day 0 is 1 March of year 0; 400 years have 146,097 days.
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_two_is_refused_and_told_by_whom() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        assert_eq!(state(root), LockState::Free);
        let first = StudyLock::acquire(root, "embed").expect("free");
        assert!(first.warning().is_none() && first.crashed().is_none());
        let message = StudyLock::acquire(root, "compare").expect_err("taken").to_string();
        let pid = format!("process {}", std::process::id());
        for part in [pid.as_str(), "embed", "UTC", "wait"] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert!(matches!(state(root), LockState::Held { owner: Some(owner) } if owner.pid == std::process::id()));
        drop(first);
        assert_eq!(state(root), LockState::Free);
        StudyLock::acquire(root, "compare").expect("free again");
    }

    #[test]
    fn what_a_crash_leaves_is_no_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(LOCK_FILE);
        let before = Owner { pid: 7, command: "tune".into(), computer: None, since: "2026-01-01 00:00:00".into() };
        fs::write(&path, toml::to_string(&before).expect("TOML")).expect("written");
        assert_eq!(state(folder.path()), LockState::Crashed { owner: before.clone() });
        let lock = StudyLock::acquire(folder.path(), "tune").expect("free");
        assert_eq!(lock.crashed(), Some(&before));
        drop(lock);
        // Whatever else stands in the file is nobody's name.
        for text in ["", "pid = -1", "\u{1b}[2J", "pid = 7\ncommand = \"\\u001b\"\nsince = \"\""] {
            fs::write(&path, text).expect("written");
            assert_eq!(state(folder.path()), LockState::Free, "{text:?}");
            assert!(StudyLock::acquire(folder.path(), "tune").expect("free").crashed().is_none());
        }
    }

    #[test]
    fn where_no_lock_file_can_be_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let gone = StudyLock::acquire(&folder.path().join("gone"), "embed").expect_err("no folder").to_string();
        assert!(gone.contains("gone") && gone.contains("may write"), "{gone}");
        fs::create_dir(folder.path().join(LOCK_FILE)).expect("a folder in the way");
        let taken = StudyLock::acquire(folder.path(), "embed").expect_err("no file").to_string();
        assert!(taken.contains("remove it"), "{taken}");
    }

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_772_373_909, "2026-03-01 14:05:09"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
