//! The program. What it does is in [`atoti_grpc_bridge::cli`].

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A call allocates some dozens of times, and frees as often: with the C library's allocator that is an eighth of it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    atoti_grpc_bridge::install_crypto_provider();
    atoti_grpc_bridge::cli::run()
}
