//! Version negotiation with a floor.

/// The newest protocol version this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// The oldest it still speaks.
pub const MINIMUM_VERSION: u32 = 1;

/// The newest version both sides speak, given a client's range.
pub fn negotiate(newest: u32, minimum: u32) -> Option<u32> {
    let version = newest.min(PROTOCOL_VERSION);
    (version >= minimum.max(MINIMUM_VERSION)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        assert_eq!(negotiate(1, 1), Some(1));
        assert_eq!(negotiate(7, 1), Some(1));
        assert_eq!(negotiate(u32::MAX, 0), Some(1));
    }

    #[test]
    fn without_a_common_version_there_is_none() {
        assert_eq!(negotiate(0, 0), None);
        assert_eq!(negotiate(7, 2), None);
        assert_eq!(negotiate(1, 2), None);
    }
}
