//! The table of figures next to their floors, as text, in the README and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::machine::Machine;

const BEGIN: &str = "<!-- results: written by `tidemark-bench all --write-readme` -->";
const END: &str = "<!-- end of results -->";

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
    /// Events per second.
    PerSecond,
    /// Seconds of processor time per 10,000 deliveries.
    CpuSeconds,
    /// Bytes, shown in KiB.
    KiB,
    /// A ratio of two counts.
    Share,
}

/// What the issue asks of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    /// The ratio to the floor is at least this.
    AtLeast(f64),
    /// The ratio to the floor is at most this.
    AtMost(f64),
    /// The value itself is at most this, in the figure's unit.
    ValueAtMost(f64),
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    workload: &'static str,
    name: String,
    unit: Unit,
    value: f64,
    floor: Option<Floor>,
    target: Option<Bound>,
}

#[derive(Clone, Debug, Serialize)]
struct Floor {
    name: String,
    value: f64,
}

impl Figure {
    /// A figure without floor or target.
    pub(crate) fn new(
        workload: &'static str,
        name: impl Into<String>,
        unit: Unit,
        value: f64,
    ) -> Figure {
        Figure { workload, name: name.into(), unit, value, floor: None, target: None }
    }

    /// The same on this machine without Tidemark.
    pub(crate) fn floor(mut self, name: impl Into<String>, value: f64) -> Figure {
        self.floor = Some(Floor { name: name.into(), value });
        self
    }

    /// What it has to reach.
    pub(crate) fn target(mut self, bound: Bound) -> Figure {
        self.target = Some(bound);
        self
    }

    fn ratio(&self) -> Option<f64> {
        let floor = self.floor.as_ref()?.value;
        (floor != 0.0).then(|| self.value / floor)
    }

    fn met(&self) -> Option<bool> {
        Some(match self.target? {
            Bound::AtLeast(least) => self.ratio()? >= least,
            Bound::AtMost(most) => self.ratio()? <= most,
            Bound::ValueAtMost(most) => self.value <= most,
        })
    }

    fn row(&self) -> String {
        let floor = self.floor.as_ref().map_or_else(
            || "–".to_owned(),
            |floor| format!("{} ({})", self.unit.show(floor.value), floor.name),
        );
        let ratio = self.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let target = match self.target {
            Some(Bound::AtLeast(least)) => format!("≥ {least}"),
            Some(Bound::AtMost(most)) => format!("≤ {most}"),
            Some(Bound::ValueAtMost(most)) => format!("≤ {}", self.unit.show(most)),
            None => "–".to_owned(),
        };
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "–",
        };
        let value = self.unit.show(self.value);
        format!(
            "| {} | {} | {value} | {floor} | {ratio} | {target} | {met} |",
            self.workload, self.name
        )
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return "not measured".to_owned();
        }
        match self {
            Unit::Micros => format!("{} µs", grouped(value)),
            Unit::Millis => format!("{value:.1} ms"),
            Unit::PerSecond => format!("{}/s", grouped(value)),
            Unit::CpuSeconds => format!("{value:.4} s"),
            Unit::KiB => format!("{:.1} KiB", value / 1024.0),
            Unit::Share => format!("{value:.2}"),
        }
    }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A finished run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What it ran on.
    pub(crate) machine: Machine,
    /// What it measured.
    pub(crate) figures: Vec<Figure>,
    /// Repetitions of which the figures are the medians.
    pub(crate) repetitions: usize,
    /// How long the run took.
    pub(crate) seconds: u64,
}

impl Report {
    /// The machine and the table as markdown.
    pub(crate) fn markdown(&self) -> String {
        let m = &self.machine;
        let mut text = format!(
            "{} cores ({}), {} GiB, Linux {}, {}; a durable append of 4 KiB takes {} there. \
             Store: {}. Tidemark {}, {} build. Medians of {} repetitions, {} s in all; \
             load average before: {}.\n\n",
            m.cores,
            m.processor,
            m.memory_gib,
            m.kernel,
            m.file_system,
            Unit::Micros.show(m.fsync_us),
            m.store,
            m.version,
            if m.optimised { "release" } else { "debug (the figures say nothing)" },
            self.repetitions,
            self.seconds,
            m.load_average,
        );
        text.push_str("| | figure | Tidemark | floor | ratio | target | met |\n");
        text.push_str("|---|---|---:|---:|---:|---|---|\n");
        for figure in &self.figures {
            let _ = writeln!(text, "{}", figure.row());
        }
        text
    }

    /// Writes the report as JSON.
    pub(crate) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Replaces the results in a README.
    pub(crate) fn write_readme(&self, file: &Path) -> anyhow::Result<()> {
        let readme = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let replaced = replace_results(&readme, &self.markdown())?;
        std::fs::write(file, replaced).with_context(|| format!("cannot write {}", file.display()))
    }
}

fn replace_results(readme: &str, results: &str) -> anyhow::Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("the README has no place for results")?;
    let (_, after) = rest.split_once(END).context("the README's results have no end")?;
    Ok(format!("{before}{BEGIN}\n{results}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_whether_the_target_is_met() {
        let rate = Figure::new("W1", "rate", Unit::PerSecond, 12_345.0).floor("bare", 20_000.0);
        let row = rate.clone().target(Bound::AtLeast(0.6)).row();
        assert_eq!(row, "| W1 | rate | 12,345/s | 20,000/s (bare) | 0.62 | ≥ 0.6 | yes |");
        assert!(rate.clone().target(Bound::AtLeast(0.7)).row().ends_with("| **no** |"));
        assert!(rate.target(Bound::AtMost(0.6)).row().ends_with("| **no** |"));
        let memory = Figure::new("W2", "memory", Unit::KiB, 30.0 * 1024.0);
        let row = memory.target(Bound::ValueAtMost(24.0 * 1024.0)).row();
        assert_eq!(row, "| W2 | memory | 30.0 KiB | – | – | ≤ 24.0 KiB | **no** |");
    }

    #[test]
    fn only_the_results_are_replaced() {
        let readme = format!("top\n{BEGIN}\nold\n{END}\nbottom\n");
        let replaced = replace_results(&readme, "new\n").expect("there is a place");
        assert_eq!(replaced, format!("top\n{BEGIN}\nnew\n{END}\nbottom\n"));
        assert!(replace_results("nothing", "new").is_err());
    }
}
