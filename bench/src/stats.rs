//! Percentiles and medians of what was measured. Knows nothing of where the samples come from.

use std::time::Duration;

/// Latencies of one phase, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one sample.
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(u32::try_from(sample.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds all samples of another collection.
    pub(crate) fn absorb(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    /// How many samples there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The sample below which `fraction` of them lie, in microseconds; 0 without samples.
    pub(crate) fn percentile(&mut self, fraction: f64) -> f64 {
        if self.0.is_empty() {
            return 0.0;
        }
        let rank = ((self.0.len() - 1) as f64 * fraction).round() as usize;
        let (_, sample, _) = self.0.select_nth_unstable(rank);
        f64::from(*sample)
    }
}

/// The middle of the repetitions; the mean of the two middle ones when their number is even.
pub(crate) fn median(samples: impl IntoIterator<Item = f64>) -> f64 {
    let mut samples: Vec<f64> = samples.into_iter().filter(|sample| sample.is_finite()).collect();
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    match samples.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => samples[middle],
        _ => (samples[middle - 1] + samples[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let mut latencies = Latencies::default();
        for micros in (1..=101).rev() {
            latencies.push(Duration::from_micros(micros));
        }
        assert_eq!(latencies.percentile(0.0), 1.0);
        assert_eq!(latencies.percentile(0.5), 51.0);
        assert_eq!(latencies.percentile(0.99), 100.0);
        assert_eq!(latencies.percentile(1.0), 101.0);
        assert_eq!(Latencies::default().percentile(0.5), 0.0);
    }

    #[test]
    fn medians_ignore_the_order_and_what_was_not_measured() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median([f64::NAN, 7.0]), 7.0);
        assert!(median([]).is_nan());
    }
}
