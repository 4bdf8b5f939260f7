//! What a training run shows while it runs: one line that renews itself on a terminal, a line now and then elsewhere.

use crate::output;
use crate::progress::Progress;
use chestnut::pretrain::Event;
use std::cell::{Cell, RefCell};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(30);
/// Between two lines that renew themselves.
const RENEWED: Duration = Duration::from_millis(200);

/// Bars of the stages and the line of the training.
#[derive(Default)]
pub(super) struct Live {
    bar: RefCell<Option<(&'static str, Progress)>>,
    last: Cell<Option<Instant>>,
    open: Cell<bool>,
}

impl Live {
    pub(super) fn show(&self, event: &Event<'_>) {
        match *event {
            Event::Cached { done, all } => self.stage("reading images", done, all),
            Event::Cropped { done, all } => self.stage("placing windows", done, all),
            Event::Dealt { train, validation } => {
                remark!("{train} images to learn from, {validation} of other patients to judge by");
            }
            Event::Resumed { epoch, batch } => {
                remark!("going on in epoch {} after {batch} batches", epoch + 1);
            }
            Event::Batch { epoch, epochs, batch, batches, loss, auc, images_per_second, seconds_left } => {
                let auc = auc.map_or_else(String::new, |v| format!(", AUC {v:.4}"));
                self.line(&format!(
                    "epoch {}/{epochs}, batch {batch}/{batches}: loss {loss:.4}{auc}, {images_per_second:.1} images/s, \
                     {} left",
                    epoch + 1,
                    duration(seconds_left)
                ));
            }
            Event::Epoch { record, best } => {
                self.close();
                let number = |v: Option<f64>| v.map_or_else(|| "none".to_owned(), |v| format!("{v:.4}"));
                remark!(
                    "epoch {}: loss {:.4}, validation loss {}, mean AUC {}{}",
                    record.epoch + 1,
                    record.loss,
                    number(record.validation_loss),
                    number(record.auc),
                    if best { " (best so far)" } else { "" }
                );
            }
        }
    }

    fn stage(&self, name: &'static str, done: usize, all: usize) {
        let mut bar = self.bar.borrow_mut();
        if bar.as_ref().is_none_or(|(known, _)| *known != name) {
            *bar = Some((name, Progress::new(name, "images")));
        }
        if let Some((_, progress)) = bar.as_ref() {
            progress.update(done, all);
            if done == all {
                progress.finish(&format!("{all} images"));
            }
        }
    }

    fn line(&self, text: &str) {
        let terminal = std::io::stderr().is_terminal();
        let wait = if terminal { RENEWED } else { PLAIN };
        if self.last.get().is_some_and(|last| last.elapsed() < wait) {
            return;
        }
        self.last.set(Some(Instant::now()));
        if terminal {
            output::aside(format_args!("\r\x1b[2K{text}"));
            self.open.set(true);
        } else {
            remark!("{text}");
        }
    }

    fn close(&self) {
        if self.open.replace(false) {
            output::aside(format_args!("\r\x1b[2K"));
        }
    }
}

/// Hours and minutes, or minutes and seconds.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown time".to_owned();
    }
    let whole = seconds.round() as u64;
    if whole >= 3600 {
        format!("{} h {:02} min", whole / 3600, whole % 3600 / 60)
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!([59.6, 3599.0, 7260.0].map(duration), ["1 min 00 s", "59 min 59 s", "2 h 01 min"]);
        assert_eq!(duration(f64::INFINITY), "unknown time");
    }
}
