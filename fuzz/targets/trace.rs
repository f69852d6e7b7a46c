//! See `fuzzing::trace` of the bridge.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| atoti_grpc_bridge::fuzzing::trace(input));
