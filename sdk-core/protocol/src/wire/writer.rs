//! Writing the protobuf encoding in one pass. A message's length is written after its body, which
//! moves only if its length takes more than the one byte set aside.
//!
//! The `put_` functions leave out a default value, as proto3 does; the `one_of_` functions do not.

/// Appends a number, seven bits to the byte.
#[inline]
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn key(field: u32, wire_type: u32, out: &mut Vec<u8>) {
    varint(u64::from(field << 3 | wire_type), out);
}

pub(super) fn one_of_uint(field: u32, value: u64, out: &mut Vec<u8>) {
    key(field, 0, out);
    varint(value, out);
}

pub(super) fn put_uint(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        one_of_uint(field, value, out);
    }
}

pub(super) fn put_bool(field: u32, value: bool, out: &mut Vec<u8>) {
    put_uint(field, u64::from(value), out);
}

pub(super) fn one_of_sint(field: u32, value: i64, out: &mut Vec<u8>) {
    one_of_uint(field, (value << 1 ^ value >> 63) as u64, out);
}

pub(super) fn one_of_fixed(field: u32, value: u64, out: &mut Vec<u8>) {
    key(field, 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_fixed(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        one_of_fixed(field, value, out);
    }
}

/// Text or bytes, also when empty: in a oneof, and each one of a repeated field.
pub(super) fn one_of_bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    key(field, 2, out);
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

pub(super) fn put_bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        one_of_bytes(field, value, out);
    }
}

/// A message, whose fields `body` appends.
#[inline]
pub(super) fn message(field: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    key(field, 2, out);
    let start = out.len();
    out.push(0);
    body(out);
    let length = out.len() - start - 1;
    if length < 0x80 {
        out[start] = length as u8;
    } else {
        make_room(out, start, length);
    }
}

/// Widens the byte at `start` to hold the length of what follows it.
fn make_room(out: &mut Vec<u8>, start: usize, length: usize) {
    let mut prefix = Vec::with_capacity(10);
    varint(length as u64, &mut prefix);
    out.splice(start..=start, prefix);
}
