//! A page of a history as Atoti sends it: about a KB for each query.

use bytes::Bytes;
use serde_json::json;

/// Queries on the page.
pub(crate) const QUERIES: u64 = 200;

/// Texts of some length, with what JSON has to escape.
const TEXT: &str = "SELECT NON EMPTY {[Measures].[contributors.COUNT], [Measures].[pnl.SUM]} ON COLUMNS,\n\
    \tNON EMPTY Crossjoin(\n\t\tHierarchize(Descendants({[Booking].[Desk].DefaultMember}, 1, SELF_AND_BEFORE)),\n\
    \t\t[Underlyings].[Products].[Product].Members) ON ROWS\nFROM [EquityDerivativesCube]\n\
    WHERE ([Time].[HistoricalDates].[\"today\"], [Currency].[Currency].[EUR])\n";

/// A history of so many queries on one page, of which some run, or all.
pub(crate) fn json(queries: u64, all_run: bool) -> Bytes {
    let data: Vec<_> = (0..queries)
        .map(|number| {
            let runs = all_run || number % 8 == 0;
            json!({
                "id": crate::message::id(number),
                "status": if runs { "RUNNING" } else { "SUCCESSFUL" },
                "type": "MDX",
                "query": TEXT.repeat(2),
                "nodeName": "atoti-1",
                // The newest first.
                "startDate": format!("2026-11-23T10:{:02}:{:02}.123Z", 59 - number / 60, 59 - number % 60),
                "endDate": (!runs).then_some("2026-11-23T11:00:01.456Z"),
                "traceId": format!("{:032x}", number + 1),
                "username": format!("user{}", number % 10),
                "queryMetadata": {"cube": "EquityDerivativesCube", "catalog": "Production"},
            })
        })
        .collect();
    let page =
        json!({"data": data, "pagination": {"pageNumber": 0, "pageSize": queries, "totalItems": queries}});
    Bytes::from(page.to_string())
}
