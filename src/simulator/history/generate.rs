//! Plausible queries, the same for the same seed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::record::{NewQuery, Outcome, QueryType};

const USERS: [&str; 8] = ["ada", "grace", "edsger", "barbara", "donald", "frances", "niklaus", "admin"];
const CUBES: [&str; 4] = ["Sales", "Equity", "FX Exposure", "Liquidity"];
const MEASURES: [&str; 5] = ["contributors.COUNT", "pnl.SUM", "Value at Risk", "delta.SUM", "Quantity.MEAN"];
const LEVELS: [&str; 6] = [
    "[Booking].[Desk].[Desk]",
    "[Geography].[City].[City]",
    "[Time].[Date].[Date]",
    "[Products].[Category].[Category]",
    "[Counterparty].[Rating].[Rating]",
    "[Currency].[Currency].[Currency]",
];
const WIDGETS: [&str; 4] = ["pivot-table", "line-chart", "kpi", "tree-table"];
/// How many different texts and notes there are. Queries share them, so that a long history stays small.
const VARIETY: usize = 64;
const DAY_MS: u64 = 24 * 3600 * 1000;

/// A source of queries of one node.
#[derive(Debug)]
pub(in super::super) struct Generator {
    rng: fastrand::Rng,
    node_name: Arc<str>,
    users: Vec<Arc<str>>,
    texts: Vec<Arc<str>>,
    notes: Vec<Arc<BTreeMap<String, String>>>,
}

impl Generator {
    pub(in super::super) fn new(seed: u64, node_name: &str) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let texts = (0..VARIETY).map(|_| mdx(&mut rng).into()).collect();
        let notes = (0..VARIETY).map(|_| Arc::new(note(&mut rng))).collect();
        let users = USERS.map(Arc::from).to_vec();
        Self { rng, node_name: node_name.into(), users, texts, notes }
    }

    /// A query that ended within the last day.
    pub(in super::super) fn finished(&mut self) -> NewQuery {
        let outcome = match self.rng.u32(0..100) {
            0..85 => Outcome::Successful,
            85..93 => Outcome::Failed,
            _ => Outcome::Cancelled,
        };
        let run_time = self.run_time();
        let started_ago = run_time + Duration::from_millis(self.rng.u64(1000..DAY_MS));
        NewQuery { started_ago, ends: Some((run_time, outcome)), ..self.query() }
    }

    /// A query that has been running for up to an hour and does not end by itself.
    pub(in super::super) fn running(&mut self) -> NewQuery {
        let started_ago = Duration::from_millis(self.rng.u64(60_000..3_600_000));
        NewQuery { started_ago, ..self.query() }
    }

    /// A query that begins now and ends by itself.
    pub(in super::super) fn arrival(&mut self) -> NewQuery {
        let outcome = if self.rng.u32(0..100) < 90 { Outcome::Successful } else { Outcome::Failed };
        NewQuery { ends: Some((self.run_time(), outcome)), ..self.query() }
    }

    /// 0.1 to 30 s, short ones far more often.
    fn run_time(&mut self) -> Duration {
        let exponent = self.rng.f64();
        Duration::from_secs_f64(0.1 * 300_f64.powf(exponent))
    }

    fn query(&mut self) -> NewQuery {
        let rng = &mut self.rng;
        NewQuery {
            id: Some(random_id(rng)),
            username: Arc::clone(&self.users[rng.usize(..self.users.len())]),
            text: Arc::clone(&self.texts[rng.usize(..VARIETY)]),
            query_type: if rng.u32(0..20) == 0 { QueryType::Unknown } else { QueryType::Mdx },
            metadata: Arc::clone(&self.notes[rng.usize(..VARIETY)]),
            node_name: Some(Arc::clone(&self.node_name)),
            trace_id: Some(random_trace_id(rng)),
            fraction_digits: rng.u32(0..=9),
            ..NewQuery::default()
        }
    }
}

/// A random positive 64-bit number, as Atoti's ids are; most have 18 or 19 digits.
pub(super) fn random_id(rng: &mut fastrand::Rng) -> u64 {
    rng.u64(1..=i64::MAX as u64)
}

pub(super) fn random_trace_id(rng: &mut fastrand::Rng) -> String {
    format!("{:032x}", rng.u128(1..))
}

fn mdx(rng: &mut fastrand::Rng) -> String {
    let measure = MEASURES[rng.usize(..MEASURES.len())];
    let level = LEVELS[rng.usize(..LEVELS.len())];
    let cube = CUBES[rng.usize(..CUBES.len())];
    format!(
        "SELECT NON EMPTY {{[Measures].[{measure}]}} ON COLUMNS, NON EMPTY {level}.Members ON ROWS FROM [{cube}] \
         CELL PROPERTIES VALUE, FORMATTED_VALUE, BACK_COLOR, FORE_COLOR, FONT_FLAGS"
    )
}

fn note(rng: &mut fastrand::Rng) -> BTreeMap<String, String> {
    let dashboard = format!("dashboard-{}", rng.u32(1..=12));
    let widget = WIDGETS[rng.usize(..WIDGETS.len())].to_owned();
    BTreeMap::from([("dashboard".to_owned(), dashboard), ("widget".to_owned(), widget)])
}
