//! The program. What it does is in [`atoti_grpc_bridge::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    atoti_grpc_bridge::install_crypto_provider();
    atoti_grpc_bridge::cli::run()
}
