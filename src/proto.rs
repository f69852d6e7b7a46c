//! The generated code of `proto/`, and the descriptor set that reflection serves.
//!
//! Lints are relaxed here and nowhere else: nobody reads generated code for its style.

mod codec;

pub use self::codec::Codec;

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

/// Every method of every service that is served, as `package.Service/Method`.
///
/// # Panics
///
/// When a descriptor set that was compiled in cannot be read.
#[cfg(feature = "bridge")]
pub fn methods() -> impl Iterator<Item = String> {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    const SETS: [&[u8]; 4] = [
        FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let files =
        SETS.into_iter().flat_map(|set| FileDescriptorSet::decode(set).expect("it was compiled in").file);
    files.flat_map(|file| {
        let package = file.package().to_owned();
        file.service.into_iter().flat_map(move |service| {
            let service_name = format!("{package}.{}", service.name());
            service.method.into_iter().map(move |method| format!("{service_name}/{}", method.name()))
        })
    })
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "bridge")]
    #[test]
    fn methods_are_those_of_all_services() {
        let methods: Vec<_> = super::methods().collect();
        for method in [
            "atoti.queryhistory.v1.QueryHistoryService/CancelQuery",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(methods.iter().any(|known| known == method), "{method}: {methods:?}");
        }
    }
}
