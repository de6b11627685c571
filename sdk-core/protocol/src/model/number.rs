//! Arithmetic and order of Firestore's numbers: integers and doubles are one type, compared by
//! their exact value.

use std::cmp::Ordering;

use super::value::Value;

/// 2^63, the least double above every `i64`.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// NaN first and equal to itself; -0.0 equals 0.0.
pub(crate) fn compare_doubles(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.partial_cmp(&b).expect("neither is NaN"),
    }
}

/// By exact value: no `i64` is rounded.
pub(crate) fn compare_integer_double(integer: i64, double: f64) -> Ordering {
    if double.is_nan() || double < -I64_END {
        return Ordering::Greater;
    }
    if double >= I64_END {
        return Ordering::Less;
    }
    let whole = double.trunc();
    // Exact: a whole double within the range of i64.
    integer.cmp(&(whole as i64)).then_with(|| compare_doubles(0.0, double - whole))
}

/// The same bits, all NaNs being the same.
pub(crate) fn identical_doubles(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// What `increment` makes of a field: integers saturate, a double makes the sum a double, and
/// what is no number is replaced.
pub(crate) fn increment(base: Option<&Value>, operand: &Value) -> Value {
    match (base, operand) {
        (Some(Value::Integer(a)), Value::Integer(b)) => Value::Integer(a.saturating_add(*b)),
        (Some(Value::Integer(a)), Value::Double(b)) => Value::Double(*a as f64 + b),
        (Some(Value::Double(a)), Value::Integer(b)) => Value::Double(a + *b as f64),
        (Some(Value::Double(a)), Value::Double(b)) => Value::Double(a + b),
        _ => operand.clone(),
    }
}

/// What `minimum` (`wanted` is less) or `maximum` (`wanted` is greater) makes of a field: equal
/// values keep the field's, NaN wins over any number, and what is no number is replaced.
pub(crate) fn extremum(base: Option<&Value>, operand: &Value, wanted: Ordering) -> Value {
    let Some(base) = base.filter(|base| base.is_number()) else { return operand.clone() };
    if base.is_nan() {
        base.clone()
    } else if operand.is_nan() || operand.compare(base) == wanted {
        operand.clone()
    } else {
        base.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The exact order by another way: i128 holds every i64 and every whole double in their reach.
    fn naive(integer: i64, double: f64) -> Ordering {
        if double.is_nan() {
            return Ordering::Greater;
        }
        if double.abs() >= 1e30 {
            return if double > 0.0 { Ordering::Less } else { Ordering::Greater };
        }
        let floor = double.floor();
        i128::from(integer).cmp(&(floor as i128)).then(if double > floor {
            Ordering::Less
        } else {
            Ordering::Equal
        })
    }

    #[test]
    fn integers_and_doubles_at_the_edges() {
        let two53 = 9_007_199_254_740_992_i64;
        for integer in [i64::MIN, i64::MIN + 1, -two53 - 1, -1, 0, 1, two53, two53 + 1, i64::MAX] {
            for double in [
                f64::NAN,
                f64::NEG_INFINITY,
                f64::INFINITY,
                f64::MAX,
                f64::MIN,
                -I64_END,
                I64_END,
                I64_END.next_down(),
                (-I64_END).next_down(),
                -0.0,
                0.0,
                f64::MIN_POSITIVE,
                -5e-324,
                0.5,
                -0.5,
                -1.5,
                two53 as f64,
                two53 as f64 + 2.0,
                -(two53 as f64) - 2.0,
            ] {
                assert_eq!(
                    compare_integer_double(integer, double),
                    naive(integer, double),
                    "{integer} {double}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn integers_and_doubles_compare_exactly(integer: i64, double: f64, shift in 0..64_u32) {
            let integer = integer >> shift;
            for double in [double, integer as f64, (integer as f64).next_up(), integer as f64 + 0.5] {
                prop_assert_eq!(compare_integer_double(integer, double), naive(integer, double));
            }
        }
    }
}
