//! A bar with rate and time left on a terminal, a plain line now and then elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two plain lines.
const PLAIN: Duration = Duration::from_secs(10);

/// Progress of one stage.
pub(crate) struct Progress {
    bar: ProgressBar,
    terminal: bool,
    name: String,
    start: Instant,
    last: Mutex<Instant>,
}

impl Progress {
    /// `name` says what is being done, `unit` what is counted.
    pub(crate) fn new(name: &str, unit: &str) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = format!("{{msg:24}} {{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        Self { bar, terminal, name: name.to_owned(), start: Instant::now(), last: Mutex::new(Instant::now()) }
    }

    /// Shows that `done` of `total` are done.
    pub(crate) fn update(&self, done: usize, total: usize) {
        if self.terminal {
            self.bar.set_length(total as u64);
            self.bar.set_position(done as u64);
            return;
        }
        let Ok(mut last) = self.last.lock() else { return };
        if last.elapsed() >= PLAIN && done > 0 {
            *last = Instant::now();
            let rate = done as f64 / self.start.elapsed().as_secs_f64();
            let left = (total - done.min(total)) as f64 / rate;
            remark!("{}: {done} of {total}, {rate:.1}/s, {left:.0} s left", self.name);
        }
    }

    /// Removes the bar and says how long it took.
    pub(crate) fn finish(&self, what: &str) {
        self.bar.finish_and_clear();
        remark!("{}: {what} in {:.1} s", self.name, self.start.elapsed().as_secs_f64());
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}
