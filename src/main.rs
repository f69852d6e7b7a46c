//! The program: see `atoti_grpc_bridge::cli`.
fn main() {}
