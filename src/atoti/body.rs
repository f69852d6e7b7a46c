//! The body of an answer: its pieces as they came. A long one is never put together, and given back while it is parsed.

use std::{borrow::Cow, collections::VecDeque, io::Read as _};

use bytes::{Buf, Bytes};
use serde::de::DeserializeOwned;

/// As much of a body as judging it takes.
const MOST_JUDGED: usize = 64 * 1024;
/// A document that is no longer is put together to be read: in pieces it would be read byte by byte.
const MOST_JOINED: usize = 256 * 1024;

/// What has been read of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Body {
    pub(super) const fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The beginning, in one piece.
    pub(super) fn beginning(&self) -> Cow<'_, [u8]> {
        match self.pieces.front() {
            None => Cow::Borrowed(&[]),
            Some(only) if self.pieces.len() == 1 => Cow::Borrowed(only),
            Some(_) => {
                let mut beginning = Vec::with_capacity(self.length.min(MOST_JUDGED));
                for piece in &self.pieces {
                    let room = MOST_JUDGED - beginning.len();
                    beginning.extend_from_slice(&piece[..piece.len().min(room)]);
                }
                Cow::Owned(beginning)
            }
        }
    }

    /// Puts a short one together, to be judged and read.
    pub(super) fn join(&mut self) {
        if self.pieces.len() > 1 && self.length <= MOST_JOINED {
            let whole = self.copy_to_bytes(self.length);
            self.push(whole);
        }
    }

    /// Reads one JSON document. Of a long one each piece is let go as soon as it has been read: a large answer is never
    /// held both as text and as what the text says.
    pub(super) fn json<T: DeserializeOwned>(self) -> Result<T, String> {
        let parsed = match self.pieces.front() {
            Some(only) if self.pieces.len() == 1 => serde_json::from_slice(only),
            _ => serde_json::from_reader(self.reader()),
        };
        parsed.map_err(|error| error.to_string())
    }

    /// The whole of it as text.
    pub(super) fn text(self) -> Result<String, String> {
        let mut text = String::with_capacity(self.length);
        self.reader().read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

impl Buf for Body {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut count: usize) {
        self.length -= count;
        while let Some(piece) = self.pieces.front_mut()
            && count > 0
        {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        let mut body = Self::default();
        body.push(Bytes::copy_from_slice(bytes));
        body
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &[u8], at: &[usize]) -> Body {
        let mut body = Body::default();
        let mut rest = text;
        for at in at {
            let (piece, after) = rest.split_at((*at).min(rest.len()));
            body.push(Bytes::copy_from_slice(piece));
            rest = after;
        }
        body.push(Bytes::copy_from_slice(rest));
        body
    }

    proptest! {
        #[test]
        fn a_document_reads_the_same_however_it_is_cut(
            values in prop::collection::vec("[a-z\"\\\\é\u{1f600}]{0,9}", 0..20),
            at in prop::collection::vec(0usize..9, 0..20),
        ) {
            let text = serde_json::to_vec(&values).expect("JSON");
            let body = cut(&text, &at);
            prop_assert_eq!(body.len(), text.len());
            prop_assert_eq!(&*body.beginning(), &text[..]);
            let mut joined = cut(&text, &at);
            joined.join();
            prop_assert_eq!((joined.len(), joined.pieces.len()), (text.len(), 1));
            prop_assert_eq!(joined.json::<Vec<String>>(), Ok(values.clone()));
            prop_assert_eq!(body.json::<Vec<String>>(), Ok(values));
            prop_assert_eq!(cut(&text, &at).text().map(String::into_bytes), Ok(text));
        }
    }

    #[test]
    fn a_long_body_stays_in_pieces() {
        let mut body = Body::default();
        for length in [MOST_JOINED, 1] {
            body.push(Bytes::from(vec![b' '; length]));
        }
        body.join();
        assert_eq!((body.len(), body.pieces.len()), (MOST_JOINED + 1, 2));
    }

    #[test]
    fn what_follows_a_document_is_an_error() {
        assert!(cut(b"[] x", &[1]).json::<Vec<u8>>().is_err());
        assert!(cut(b"[] x", &[]).json::<Vec<u8>>().is_err());
        assert!(Body::default().json::<Vec<u8>>().is_err());
    }
}
