//! What the program says: results on standard output, remarks on standard error.
//!
//! Neither may stop the work. Whoever reads may go away (`chestnut models list | head -1`): then nothing more is said, and
//! the exit code is that of the work. A standard output that cannot be written for another reason, such as a full disk, is
//! a failure, which [`finish`] reports in the end.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why standard output cannot be written to any more.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line to standard output.
macro_rules! say {
    ($($what:tt)+) => { $crate::output::write(format_args!("{}\n", format_args!($($what)+))) };
}

/// Writes a line to standard error.
macro_rules! remark {
    ($($what:tt)+) => { $crate::output::aside(format_args!("{}\n", format_args!($($what)+))) };
}

fn lost() -> MutexGuard<'static, Option<io::Error>> {
    LOST.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(result: io::Result<()>) {
    if let Err(e) = result {
        lost().get_or_insert(e);
    }
}

/// Writes to standard output, unless it is lost.
pub(crate) fn write(text: fmt::Arguments<'_>) {
    if !is_lost() {
        keep(io::stdout().lock().write_fmt(text));
    }
}

/// Writes to standard error; if nobody listens, nothing is said.
pub(crate) fn aside(text: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}

/// Whether nothing more can be written to standard output.
pub(crate) fn is_lost() -> bool {
    lost().is_some()
}

/// Writes what is still held back.
///
/// # Errors
/// Why standard output could not be written to, if not because its reader went away.
pub(crate) fn finish() -> anyhow::Result<()> {
    keep(io::stdout().flush());
    match lost().take() {
        Some(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(e).context("cannot write to standard output"))
        }
        _ => Ok(()),
    }
}
