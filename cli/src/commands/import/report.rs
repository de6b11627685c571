//! How an import shows its progress: a bar on a terminal, a line now and then elsewhere. Driven by
//! the import; decides nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock;
use crate::output::note;

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows progress on stderr.
pub(super) struct Report {
    bar: Option<ProgressBar>,
    started: Instant,
    /// When the last line was printed. Set by `show`.
    last_line: Instant,
    /// The size of the raw input, if it is known.
    total: Option<u64>,
}

impl Report {
    /// For an input of this size.
    pub(super) fn new(total: Option<u64>) -> Report {
        let now = clock::now();
        let bar = std::io::stderr().is_terminal().then(|| bar(total));
        Report { bar, started: now, last_line: now, total }
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        clock::now() - self.started
    }

    /// Shows how many documents are acknowledged and how far the raw input is done.
    pub(super) fn show(&mut self, documents: u64, position: u64) {
        let rate = per_second(documents, self.elapsed());
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            bar.set_message(format!("{documents} documents, {rate:.0}/s"));
            return;
        }
        let now = clock::now();
        if now - self.last_line >= LINE_EVERY {
            self.last_line = now;
            let share = self.total.filter(|total| *total > 0);
            let share =
                share.map_or(String::new(), |total| format!(" ({} %)", position * 100 / total));
            note(format_args!("import: {documents} documents{share}, {rate:.0}/s"));
        }
    }

    /// Prints a message without breaking the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => note(text),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Documents per second; zero for no time at all.
pub(super) fn per_second(documents: u64, elapsed: Duration) -> f64 {
    let seconds = elapsed.as_secs_f64();
    if seconds > 0.0 { documents as f64 / seconds } else { 0.0 }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{bar:30.cyan/dim} {percent:>3} %  {msg}  {eta} left")
        }
        None => (ProgressBar::no_length(), "{spinner} {bytes}  {msg}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template above is valid");
    bar.with_style(style.progress_chars("━╸─"))
}
