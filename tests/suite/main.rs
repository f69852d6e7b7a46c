//! The whole program over real sockets: its process, a gRPC client, and an Atoti that answers or misbehaves.

#![expect(
    unreachable_pub,
    reason = "a test binary has no outside: `pub` marks what the support modules offer"
)]

mod support;

mod audit;
mod bodies;
mod bulk;
mod calls;
mod cancel;
mod cancel_all;
mod certificates;
mod chaos;
mod commands;
mod connections;
mod credentials;
mod crowd;
mod deletes;
mod end_to_end;
mod floods;
mod health;
mod house;
mod ids;
mod info;
mod limits;
mod list;
mod malformed;
mod metadata;
mod nodes;
mod observed;
mod own_failures;
mod plan;
mod probes;
mod process;
mod query_commands;
mod query_terminal;
mod read_rows;
mod scale;
mod simulator;
mod slow;
mod status_table;
mod watch;
mod windows;
