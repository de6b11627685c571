//! Version negotiation with a floor.

/// The newest protocol version this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest it still speaks.
pub const MINIMUM_VERSION: u32 = 1;

/// The newest version both sides speak, given a client's range.
pub fn negotiate(newest: u32, minimum: u32) -> Option<u32> {
    let _ = (newest, minimum);
    todo!()
}
