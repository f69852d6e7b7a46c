//! ListQueries: the history in pages (AIP-158).

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;

use super::{
    Bridge, Caller,
    check::Check,
    pages::{self, Position, short_digest},
};
use crate::{
    atoti::{Filter, Lane},
    proto::queryhistory::{ListQueriesRequest, ListQueriesResponse},
    status::{Failure, Reason},
};

const DEFAULT_PAGE_SIZE: u32 = 50;
const MAX_PAGE_SIZE: u32 = 1000;
/// Most clients take messages of up to 4 MiB, unless told otherwise.
const MOST_BYTES: usize = 3 * 1024 * 1024;

pub(super) async fn serve(
    bridge: &Bridge,
    caller: &Arc<Caller>,
    request: ListQueriesRequest,
) -> Result<ListQueriesResponse, Failure> {
    let mut check = Check::default();
    let filter = check.filter(request.filter.as_ref());
    let size = page_size(request.page_size).or_else(|| check.refuse("page_size", Reason::InvalidPageSize));
    // Without a good filter nobody can say whose token it is.
    let position = filter.as_ref().and_then(|filter| {
        position(&request.page_token, filter).or_else(|| check.refuse("page_token", Reason::InvalidPageToken))
    });
    let checked = filter.zip(size).zip(position);
    let ((filter, size), position) = check.done(&caller.violations, checked)?;
    let _admission = bridge.admit_read(caller).await?;
    let call = caller.call(Lane::Reads);
    let page = pages::read(&bridge.atoti, &call, &filter, &position, size, MOST_BYTES).await?;
    Ok(ListQueriesResponse {
        queries: page.queries.into_iter().map(Into::into).collect(),
        next_page_token: page.next.map(|next| token(&next.within_a_token(), &filter)).unwrap_or_default(),
        total_size: page.total,
    })
}

fn page_size(size: i32) -> Option<u32> {
    match u32::try_from(size).ok()? {
        0 => Some(DEFAULT_PAGE_SIZE),
        size => Some(size.min(MAX_PAGE_SIZE)),
    }
}

/// A position behind a checksum of itself and the filter: garbage, and tokens of other filters, are found out. It is no
/// signature: whoever makes a token up gets to a place in a list that it may read anyway.
pub(super) fn token(position: &Position, filter: &Filter) -> String {
    let position = position.encode_to_vec();
    let sum = short_digest(&[filter.parameters().as_bytes(), &[0], &position]);
    URL_SAFE_NO_PAD.encode([&sum.to_be_bytes()[..], &position].concat())
}

pub(super) fn position(token: &str, filter: &Filter) -> Option<Position> {
    if token.is_empty() {
        return Some(Position::default());
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (sum, position) = bytes.split_first_chunk()?;
    let good = u64::from_be_bytes(*sum) == short_digest(&[filter.parameters().as_bytes(), &[0], position]);
    Position::decode(position).ok().filter(|position| good && position.is_sound())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::atoti;

    #[test]
    fn page_sizes_are_coerced_and_negative_ones_refused() {
        let sizes = [0, 1, 1000, 1001, i32::MAX, -1, i32::MIN].map(page_size);
        assert_eq!(sizes, [Some(50), Some(1), Some(1000), Some(1000), Some(1000), None, None]);
    }

    #[test]
    fn a_made_up_token_is_refused_or_a_position_like_any_other() {
        let filter = Filter::default();
        let made_up = |position: &[u8]| {
            let given = Position::decode(position).expect("a position");
            super::position(&token(&given, &filter), &filter)
        };
        // before = "soon", and far beyond the calendar.
        assert_eq!(made_up(b"\x0a\x04soon"), None);
        assert_eq!(made_up(b"\x0a\x2699999999999999999999999999999999999999"), None);
        // size = 4294967295: Atoti would be asked for as much, and then for half of it, and half of that.
        assert_eq!(made_up(b"\x20\xff\xff\xff\xff\x0f"), None);
        // page = 4294967295, which has none after it.
        let last = made_up(b"\x18\xff\xff\xff\xff\x0f\x20\x01").expect("a position");
        let listing = atoti::Listing { queries: vec![atoti::Query::default()], total: Some(u64::MAX) };
        let page = last.after(listing, last.part(1), 1, 0, MOST_BYTES);
        assert_eq!(page.queries.len(), 1);
    }

    proptest! {
        #[test]
        fn a_token_is_good_for_its_filter_alone(total in any::<i64>(), garbage in any::<String>(), at in any::<usize>()) {
            let filter = Filter::default();
            let other = Filter { users: vec!["ada".to_owned()], ..Filter::default() };
            let mut given = Position::default();
            given.total = total;
            let token = token(&given, &filter);
            prop_assert_eq!(position(&token, &filter), Some(given));
            prop_assert_eq!(position(&token, &other), None);
            prop_assert!(garbage.is_empty() || position(&garbage, &filter).is_none());
            let mut bent = token.into_bytes();
            let at = at % bent.len();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            prop_assert_eq!(position(std::str::from_utf8(&bent).expect("ASCII"), &filter), None);
        }
    }
}
