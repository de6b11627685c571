//! Any sequence of events against the session's state machine.
#![no_main]

#[path = "../src/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    script::replay(input);
});
