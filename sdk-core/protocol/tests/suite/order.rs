//! The laws of the order of values, and of the keys that must have the same order.

use std::cmp::Ordering;

use proptest::prelude::*;
use tidemark_protocol::model::{Value, key};

use crate::generate::{collection_path, document_path, id, integer, value};

fn encoded(value: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    key::encode_value(value, &mut key);
    key
}

fn descending(value: &Value) -> Vec<u8> {
    let mut key = Vec::new();
    key::encode_value_descending(value, &mut key);
    key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_order_is_total(a in value(), b in value(), c in value()) {
        prop_assert_eq!(a.compare(&a), Ordering::Equal);
        prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
        if a.compare(&b).is_le() && b.compare(&c).is_le() {
            prop_assert!(a.compare(&c).is_le());
        }
        if a.compare(&b).is_eq() {
            prop_assert_eq!(a.compare(&c), b.compare(&c));
        }
    }

    #[test]
    fn what_is_identical_compares_equal(a in value(), b in value()) {
        prop_assert_eq!(&a, &a.clone());
        prop_assert_eq!(a == b, b == a);
        if a == b {
            prop_assert_eq!(a.compare(&b), Ordering::Equal);
        }
    }

    #[test]
    fn keys_are_in_the_order_of_values(a in value(), b in value()) {
        prop_assert_eq!(encoded(&a).cmp(&encoded(&b)), a.compare(&b), "{:?} {:?}", a, b);
        prop_assert_eq!(descending(&a).cmp(&descending(&b)), b.compare(&a));
    }

    #[test]
    fn numbers_a_little_apart_have_keys_apart(integer in integer(), ulps in -2..=2_i64) {
        let near = Value::Double(f64::from_bits((integer as f64).to_bits().wrapping_add_signed(ulps)));
        for a in [Value::Integer(integer), Value::Integer(integer.wrapping_add(1))] {
            prop_assert_eq!(encoded(&a).cmp(&encoded(&near)), a.compare(&near), "{:?} {:?}", a, near);
        }
    }

    #[test]
    fn keys_of_tuples_are_in_the_order_of_tuples(
        a in (value(), value()),
        b in (value(), value()),
    ) {
        let key = |(x, y): &(Value, Value)| [encoded(x), descending(y)].concat();
        let expected = a.0.compare(&b.0).then_with(|| b.1.compare(&a.1));
        prop_assert_eq!(key(&a).cmp(&key(&b)), expected);
    }

    #[test]
    fn no_key_is_the_beginning_of_another(a in value(), b in value()) {
        if a.compare(&b).is_ne() {
            prop_assert!(!encoded(&a).starts_with(&encoded(&b)));
            prop_assert!(!descending(&a).starts_with(&descending(&b)));
        }
    }

    #[test]
    fn a_collection_is_one_range(path in document_path(), other in document_path()) {
        let (mut prefix, mut key) = (Vec::new(), Vec::new());
        key::encode_collection(&path.parent(), &mut prefix);
        key::encode_document(&other, &mut key);
        prop_assert_eq!(key.starts_with(&prefix), path.parent().contains(&other));
    }

    #[test]
    fn documents_are_in_the_order_of_their_ids(collection in collection_path(), a in id(), b in id()) {
        let path = |id: &str| collection.doc(id).unwrap();
        let key = |id: &str| {
            let mut key = Vec::new();
            key::encode_document(&path(id), &mut key);
            key
        };
        prop_assert_eq!(key(&a).cmp(&key(&b)), a.as_bytes().cmp(b.as_bytes()));
        prop_assert_eq!(path(&a).cmp(&path(&b)), a.as_bytes().cmp(b.as_bytes()));
    }

    #[test]
    fn keys_of_documents_are_read_back(path in document_path(), cut in any::<prop::sample::Index>()) {
        let mut key = Vec::new();
        key::encode_document(&path, &mut key);
        prop_assert_eq!(key::decode_document(&key).unwrap(), path);
        prop_assert!(key::decode_document(&key[..cut.index(key.len())]).is_err());
        key.push(0);
        prop_assert!(key::decode_document(&key).is_err());
    }

    #[test]
    fn any_bytes_are_answered_as_a_key(bytes in prop::collection::vec(prop_oneof![
        Just(0_u8), Just(1), Just(0xFF), Just(b'a'), any::<u8>()
    ], 0..30)) {
        if let Ok(path) = key::decode_document(&bytes) {
            let mut key = Vec::new();
            key::encode_document(&path, &mut key);
            prop_assert_eq!(key, bytes);
        }
    }
}
