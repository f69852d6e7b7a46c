//! Compiles the protos to Rust and embeds their descriptor set for reflection, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTO_ROOT: &str = "proto";
const PROTO_FILE: &str = "proto/atoti/queryhistory/v1/query_history.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    let descriptors = protox::compile([PROTO_FILE], [PROTO_ROOT])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptor_set.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // In one order each time, and the one in which Atoti's answers are held.
        .btree_map(".atoti.queryhistory.v1")
        // Most answers have none, and all would have room for one.
        .boxed(".atoti.queryhistory.v1.CancelQueryResponse.query")
        .codec_path("crate::proto::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
