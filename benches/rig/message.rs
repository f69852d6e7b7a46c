//! The few bytes of protobuf and of gRPC's framing that are needed, by hand: the generated code would be the bridge's.

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;

/// The path of the API, up to the id of a query.
pub(crate) const QUERY_PATH: &str = "/activeviam/query-history/rest/v1/query/";
/// What is sent to Atoti to stop a query.
pub(crate) const CANCELLED: &[u8] = br#"{"status":"CANCELLED"}"#;
/// The method that the bridge and the floor serve.
pub(crate) const CANCEL: &str = "/atoti.queryhistory.v1.QueryHistoryService/CancelQuery";

/// As long as Atoti's are.
const FIRST_ID: u64 = 5_016_726_393_312_340_713;
const DELIMITED: u8 = 2;

/// What is called.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Call {
    /// The bridge's `CancelQuery`
    Cancel,
    /// The bridge's `ListQueries`, a page as large as the upstream's
    List,
    /// `CancelQuery` of a transcoder: the caller sends what goes to Atoti
    Transcoded,
    /// `CancelQuery` of a transcoder that replaces the body
    TranscodedById,
}

impl Call {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Cancel => CANCEL,
            Self::List => "/atoti.queryhistory.v1.QueryHistoryService/ListQueries",
            Self::Transcoded => "/conformance.v1.QueryHistory/CancelQuery",
            Self::TranscodedById => "/conformance.v1.QueryHistoryById/CancelQuery",
        }
    }

    /// A request, framed. Each number is another query.
    pub(crate) fn request(self, number: u64) -> Bytes {
        let mut framed = BytesMut::with_capacity(64);
        framed.put_bytes(0, 5);
        match self {
            Self::List => {
                // page_size, a varint.
                framed.put_slice(&[2 << 3, 0x80 | (crate::page::QUERIES & 0x7f) as u8]);
                framed.put_u8((crate::page::QUERIES >> 7) as u8);
            }
            Self::Cancel | Self::TranscodedById => field(&mut framed, 1, id(number).as_bytes()),
            Self::Transcoded => {
                field(&mut framed, 1, id(number).as_bytes());
                let mut patch = BytesMut::new();
                field(&mut patch, 1, b"CANCELLED");
                field(&mut framed, 2, &patch);
            }
        }
        let length = (framed.len() - 5) as u32;
        framed[1..5].copy_from_slice(&length.to_be_bytes());
        framed.freeze()
    }
}

/// The id of a query.
pub(crate) fn id(number: u64) -> String {
    (FIRST_ID + number).to_string()
}

/// The query that a framed `CancelQuery` names, when it names one and says nothing else.
pub(crate) fn query_id(framed: &[u8]) -> Option<&str> {
    let [0, _, _, _, _, key, length, id @ ..] = framed else { return None };
    (*key == 1 << 3 | DELIMITED && usize::from(*length) == id.len()).then_some(())?;
    std::str::from_utf8(id).ok()
}

/// A short field of bytes.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_slice(&[number << 3 | DELIMITED, bytes.len() as u8]);
    message.put_slice(bytes);
}
