//! What a session allows that is not a setting.

/// Frames that could not be understood before the connection is closed. A client with a bug is
/// told so; a stream of garbage does not keep the server busy.
pub const BAD_FRAMES: u32 = 16;

/// Documents named by one `Get` or by one documents target.
pub const PATHS: usize = 1_000;

/// Silent heartbeats that end a connection.
pub const SILENT_HEARTBEATS: u32 = 3;
