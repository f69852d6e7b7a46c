//! See `fuzzing::query_id` of the bridge.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| atoti_grpc_bridge::fuzzing::query_id(input));
