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
    /// The same, a page as large as callers get who name no size
    ListUsual,
    /// The bridge's `CancelQueries`, of everything on a page of running queries
    CancelMany,
    /// `CancelQuery` of a transcoder: the caller sends what goes to Atoti
    Transcoded,
    /// `CancelQuery` of a transcoder that replaces the body
    TranscodedById,
}

impl Call {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Cancel => CANCEL,
            Self::List | Self::ListUsual => "/atoti.queryhistory.v1.QueryHistoryService/ListQueries",
            Self::CancelMany => "/atoti.queryhistory.v1.QueryHistoryService/CancelQueries",
            Self::Transcoded => "/conformance.v1.QueryHistory/CancelQuery",
            Self::TranscodedById => "/conformance.v1.QueryHistoryById/CancelQuery",
        }
    }

    /// Messages in a good answer.
    pub(crate) fn answers(self) -> u64 {
        if matches!(self, Self::CancelMany) { crate::page::QUERIES } else { 1 }
    }

    /// A request, framed. Each number is another query.
    pub(crate) fn request(self, number: u64) -> Bytes {
        let mut framed = BytesMut::with_capacity(64);
        framed.put_bytes(0, 5);
        match self {
            Self::List => {
                // page_size
                count(&mut framed, 2, crate::page::QUERIES);
            }
            Self::ListUsual => {}
            Self::CancelMany => {
                let mut second = BytesMut::new();
                count(&mut second, 1, 1);
                // min_running_time and max_cancellations
                field(&mut framed, 2, &second);
                count(&mut framed, 3, crate::page::QUERIES);
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

/// Counts the messages of a gRPC body that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    pub(crate) begun: u64,
    head: Vec<u8>,
    /// Of the message at hand.
    left: usize,
}

impl Messages {
    pub(crate) fn read(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(piece.len());
                self.left -= passed;
                piece = &piece[passed..];
                continue;
            }
            let taken = (5 - self.head.len()).min(piece.len());
            self.head.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
            if let [_, length @ ..] = &*self.head
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.left = u32::from_be_bytes(length) as usize;
                self.begun += 1;
                self.head.clear();
            }
        }
    }
}

/// A field with a number below 16384.
fn count(message: &mut BytesMut, number: u8, count: u64) {
    message.put_slice(&[number << 3, 0x80 | (count & 0x7f) as u8, (count >> 7) as u8]);
}

/// A short field of bytes.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_slice(&[number << 3 | DELIMITED, bytes.len() as u8]);
    message.put_slice(bytes);
}
