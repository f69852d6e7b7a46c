//! What parsing a page costs, once: the least that whoever passes it on has to do.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use crate::{Failure, args, page};

/// Parses the upstream's page, again and again
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Seconds to go on for
    #[arg(long, default_value = "2", value_parser = args::seconds)]
    seconds: Duration,
}

/// A page, with everything kept that is passed on.
#[derive(Deserialize)]
#[expect(dead_code, reason = "it is parsed, and that is all")]
struct Page {
    data: Vec<Query>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is parsed, and that is all")]
struct Query {
    id: String,
    status: String,
    r#type: String,
    query: String,
    node_name: String,
    start_date: String,
    end_date: Option<String>,
    trace_id: String,
    username: String,
    query_metadata: BTreeMap<String, String>,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let page = page::json(page::QUERIES, false);
    let own = [i32::try_from(std::process::id())?];
    let (begin, before) = (Instant::now(), crate::cpu::seconds(&own)?);
    let mut times = 0;
    while begin.elapsed() < options.seconds {
        let parsed: Page = serde_json::from_slice(&page)?;
        black_box(parsed);
        times += 1;
    }
    let microseconds = (crate::cpu::seconds(&own)? - before) * 1e6 / f64::from(times);
    println!("{}", json!({"bytes": page.len(), "queries": page::QUERIES, "microseconds": microseconds}));
    Ok(())
}
