//! The generated code of `proto/`, and the descriptor set that reflection serves.
//!
//! Lints are relaxed here and nowhere else: nobody reads generated code for its style.

/// Package `atoti.queryhistory.v1`.
pub mod queryhistory {
    #![allow(
        missing_docs,
        unreachable_pub,
        clippy::all,
        clippy::doc_markdown,
        clippy::disallowed_methods,
        reason = "generated"
    )]
    tonic::include_proto!("atoti.queryhistory.v1");
}

/// The compiled `.proto` files, imports included, as an encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
