//! The whole program over real sockets: its process, a gRPC client, and an Atoti that answers or misbehaves.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside: `pub` marks what the support modules offer"
)]

mod support;

mod audit;
mod cancel;
mod commands;
mod end_to_end;
mod house;
mod ids;
mod metadata;
mod own_failures;
mod process;
mod simulator;
mod status_table;
