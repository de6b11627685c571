//! Chance that can be repeated: a failing test prints its seed, and `TIDEMARK_SEED` sets it.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of a test. Prints itself when the test fails.
#[derive(Debug)]
pub struct Seed {
    number: u64,
}

impl Seed {
    /// The seed from `TIDEMARK_SEED`, or this one.
    pub fn or(default: u64) -> Seed {
        let number = std::env::var("TIDEMARK_SEED").ok().and_then(|text| text.parse().ok());
        Seed { number: number.unwrap_or(default) }
    }

    /// The number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A generator; another one for each `stream`.
    pub fn rng(&self, stream: u64) -> StdRng {
        StdRng::seed_from_u64(self.number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream))
    }
}

impl Drop for Seed {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: TIDEMARK_SEED={}", self.number);
        }
    }
}
