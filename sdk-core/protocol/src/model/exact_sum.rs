//! A sum of numbers that is exact until it is read: what was added can be taken out again without a
//! trace, and the order of additions does not matter.
//!
//! Doubles are kept as one fixed-point number that spans all of them, in digits of 32 bits that may
//! carry later; integers apart from them; infinities and NaN are counted.

/// Digits from 2^-1074, the least double, to above 2^1023 times the number of doubles there can be.
const DIGITS: usize = 69;
/// The exponent of the least significant bit.
const LEAST: i32 = -1074;
/// Additions after which digits carry, long before one could overflow.
const CARRY_AFTER: u32 = 1 << 30;

/// The running sum.
#[derive(Clone, Debug)]
pub(super) struct ExactSum {
    integers: i128,
    digits: Box<[i64; DIGITS]>,
    pending: u32,
    nans: u64,
    infinite: u64,
    negative_infinite: u64,
}

impl Default for ExactSum {
    fn default() -> ExactSum {
        ExactSum {
            integers: 0,
            digits: Box::new([0; DIGITS]),
            pending: 0,
            nans: 0,
            infinite: 0,
            negative_infinite: 0,
        }
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &ExactSum) -> bool {
        let specials = |sum: &ExactSum| (sum.nans, sum.infinite, sum.negative_infinite);
        specials(self) == specials(other)
            && self.integers == other.integers
            && self.carried() == other.carried()
    }
}

impl ExactSum {
    pub(super) fn add_integer(&mut self, integer: i128) {
        self.integers += integer;
    }

    pub(super) fn add_double(&mut self, double: f64) {
        self.special(double, |count| *count += 1);
        self.add_finite(double, 1);
    }

    /// Takes out a double that was added.
    pub(super) fn remove_double(&mut self, double: f64) {
        self.special(double, |count| *count = count.saturating_sub(1));
        self.add_finite(double, -1);
    }

    fn special(&mut self, double: f64, change: impl FnOnce(&mut u64)) {
        if double.is_nan() {
            change(&mut self.nans);
        } else if double == f64::INFINITY {
            change(&mut self.infinite);
        } else if double == f64::NEG_INFINITY {
            change(&mut self.negative_infinite);
        }
    }

    fn add_finite(&mut self, double: f64, sign: i64) {
        if !double.is_finite() || double == 0.0 {
            return;
        }
        let bits = double.to_bits();
        let exponent = (bits >> 52 & 0x7FF) as usize;
        let fraction = bits & ((1 << 52) - 1);
        // Subnormals have no hidden bit and the exponent of the least normal.
        let (mantissa, shift) =
            if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let sign = if double.is_sign_negative() { -sign } else { sign };
        let (digit, bit) = (shift / 32, shift % 32);
        let mut wide = u128::from(mantissa) << bit;
        for digit in &mut self.digits[digit..digit + 3] {
            *digit += sign * i64::from(wide as u32);
            wide >>= 32;
        }
        self.pending += 1;
        if self.pending >= CARRY_AFTER {
            *self.digits = self.carried();
            self.pending = 0;
        }
    }

    /// The digits in one form: each 0 to 2^32 - 1 but the last, which has the sign.
    fn carried(&self) -> [i64; DIGITS] {
        let mut digits = *self.digits;
        let mut carry = 0;
        for digit in &mut digits[..DIGITS - 1] {
            let total = *digit + carry;
            *digit = total & 0xFFFF_FFFF;
            carry = total >> 32;
        }
        digits[DIGITS - 1] += carry;
        digits
    }

    /// The sum of the integers, if it fits; doubles are not in it.
    pub(super) fn as_integer(&self) -> Option<i64> {
        i64::try_from(self.integers).ok()
    }

    /// The nearest double.
    pub(super) fn as_double(&self) -> f64 {
        if self.nans > 0 || (self.infinite > 0 && self.negative_infinite > 0) {
            return f64::NAN;
        }
        if self.infinite > 0 {
            return f64::INFINITY;
        }
        if self.negative_infinite > 0 {
            return f64::NEG_INFINITY;
        }
        let mut total = self.clone();
        total.take_integers();
        let digits = total.carried();
        if digits[DIGITS - 1] >= 0 {
            return round(&digits);
        }
        let mut negated = ExactSum::default();
        for (to, from) in negated.digits.iter_mut().zip(digits) {
            *to = -from;
        }
        -round(&negated.carried())
    }

    /// Moves the integers into the fixed-point number.
    fn take_integers(&mut self) {
        let integers = std::mem::take(&mut self.integers);
        let sign = if integers < 0 { -1 } else { 1 };
        let magnitude = integers.unsigned_abs();
        // 2^0 is bit 1074 of the fixed-point number.
        let (digit, bit) = (LEAST.unsigned_abs() as usize / 32, LEAST.unsigned_abs() % 32);
        let (low, high) = (magnitude << bit, if bit == 0 { 0 } else { magnitude >> (128 - bit) });
        for (at, part) in [low, high].into_iter().enumerate() {
            for step in 0..4 {
                let place = digit + at * 4 + step;
                if place < DIGITS {
                    self.digits[place] += sign * i64::from((part >> (32 * step)) as u32);
                }
            }
        }
    }
}

/// The double nearest to digits that are not negative; the even one of two.
fn round(digits: &[i64; DIGITS]) -> f64 {
    let Some(top) = digits.iter().rposition(|digit| *digit != 0) else { return 0.0 };
    let bit_of_top = 63 - digits[top].leading_zeros() as usize;
    let highest = top * 32 + bit_of_top;
    // The 53 bits from the highest on, or all there are above 2^-1074.
    let lowest = highest.saturating_sub(52);
    let bit = |place: usize| -> u64 {
        let (digit, shift) =
            ((place / 32).min(DIGITS - 1), place - (place / 32).min(DIGITS - 1) * 32);
        (digits[digit] >> shift & 1) as u64
    };
    let mut mantissa =
        (lowest..=highest).rev().fold(0, |mantissa, place| mantissa << 1 | bit(place));
    if lowest > 0 && bit(lowest - 1) == 1 {
        let is_above_half = (0..lowest - 1).any(|place| bit(place) == 1);
        if is_above_half || mantissa & 1 == 1 {
            mantissa += 1;
        }
    }
    scale(mantissa, lowest as i32 + LEAST)
}

/// `mantissa * 2^exponent`, which is a double or above all of them.
fn scale(mantissa: u64, exponent: i32) -> f64 {
    if exponent >= -1022 {
        // In two steps: 2^exponent alone may be above the greatest double.
        let half = exponent / 2;
        return mantissa as f64 * 2f64.powi(half) * 2f64.powi(exponent - half);
    }
    // Below the normal doubles the bits of the mantissa are the bits of the double.
    let subnormal = f64::from_bits(1);
    mantissa as f64 * subnormal * 2f64.powi(exponent - LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(doubles: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        doubles.iter().for_each(|double| sum.add_double(*double));
        sum
    }

    #[test]
    fn one_double_is_itself() {
        let least = f64::from_bits(1);
        for double in [0.0, 1.0, -1.5, 0.1, 1e300, f64::MAX, f64::MIN, least, -least, 3e-310] {
            assert_eq!(sum(&[double]).as_double().to_bits(), (double + 0.0).to_bits(), "{double}");
        }
    }

    #[test]
    fn what_cancels_leaves_no_trace() {
        assert_eq!(sum(&[1e300, 1.0, -1e300]).as_double(), 1.0);
        assert_eq!(sum(&[0.1; 10]).as_double(), 1.0);
        let mut taken = sum(&[1e300, 0.1, f64::NAN, f64::INFINITY]);
        for double in [f64::NAN, 1e300, f64::INFINITY] {
            taken.remove_double(double);
        }
        assert_eq!(taken, sum(&[0.1]));
    }

    #[test]
    fn what_is_too_large_is_infinite() {
        assert_eq!(sum(&[f64::MAX, f64::MAX]).as_double(), f64::INFINITY);
        assert_eq!(sum(&[f64::MIN, f64::MIN]).as_double(), f64::NEG_INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).as_double().is_nan());
    }

    #[test]
    fn integers_and_doubles_add_up() {
        let mut sum = sum(&[0.5, 1e20]);
        sum.add_integer(i128::from(i64::MAX));
        assert_eq!(sum.as_double(), 1e20 + i64::MAX as f64);
        sum.add_integer(-i128::from(i64::MAX));
        sum.remove_double(1e20);
        assert_eq!(sum.as_double(), 0.5);
    }
}
