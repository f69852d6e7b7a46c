//! The parts of a call that are no I/O, one by one: how long each takes, and by how much a change has moved it.
//!
//! What a part yields is dropped in the time that is measured, as it is in a call. Where time goes in a whole call,
//! `benches/budget` tells.

#[path = "rig/message.rs"]
#[expect(dead_code, reason = "of messages a page has only the ids")]
mod message;
#[path = "rig/page.rs"]
mod page;

use std::{hint::black_box, sync::Arc, time::Duration};

use atoti_grpc_bridge::{
    atoti::QueryId,
    audit::{self, Record},
    fuzzing::parts,
    proto::queryhistory::ListQueriesResponse,
    service::{Caller, Peer},
    status::Subject,
    telemetry::TraceContext,
};
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use prost::Message as _;
use tokio::runtime;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: &str = "5016726393312340713";
const REQUEST_ID: &str = "6f1c2a0e9b7d4c35a8e1f0d2c3b4a596";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN_ID: &str = "00f067aa0ba902b7";

fn values(c: &mut Criterion) {
    c.bench_function("query id", |b| b.iter(|| QueryId::parse(black_box(ID))));
    c.bench_function("grpc-timeout", |b| b.iter(|| parts::timeout(black_box(b"29950m"))));

    let now = "2026-11-06T08:49:07Z".parse().expect("a time");
    for (name, value) in [("seconds", "120"), ("a date", "Fri, 06 Nov 2026 08:49:37 GMT")] {
        let head = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
        c.bench_function(&format!("Retry-After, {name}"), |b| {
            b.iter(|| parts::retry_after(black_box(&head), now));
        });
    }
}

/// As a call does it: with a clock of tokio's, and the address of a connection that others share.
fn callers(c: &mut Criterion) {
    let parent = format!("00-{TRACE_ID}-{SPAN_ID}-01");
    let plain = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("user-agent", "grpc-java-netty/1.76.0"),
        ("grpc-accept-encoding", "gzip"),
        ("grpc-timeout", "29950m"),
        ("authorization", "Basic YWRhOnNlY3JldA=="),
        ("x-request-id", REQUEST_ID),
    ];
    let traced =
        [("traceparent", parent.as_str()), ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")];
    let clock = runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _entered = clock.enter();
    let peer = Arc::new(Peer::at("127.0.0.1:40000".parse().ok()));
    for (name, headers) in [("alone", plain.to_vec()), ("with trace context", [&plain[..], &traced].concat())]
    {
        let headers = headers.into_iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        });
        let headers = HeaderMap::from_iter(headers);
        c.bench_function(&format!("a caller's headers, {name}"), |b| {
            b.iter(|| {
                let headers = black_box(&headers);
                let trace = TraceContext::read(headers);
                Caller::read(headers, Arc::clone(&peer), Duration::from_secs(30), trace)
            });
        });
    }
}

fn outcomes(c: &mut Criterion) {
    let failure = parts::not_running();
    let subject = Subject { request_id: REQUEST_ID, query_id: Some(ID) };
    c.bench_function("a failure as a status", |b| {
        b.iter(|| black_box(&failure).to_status(black_box(subject)))
    });

    let record = Record {
        operation: "CancelQuery",
        query_id: Some(ID),
        filter: None,
        reason: "",
        caller: audit::Caller { peer: Some("127.0.0.1:40000"), certificate: None, claimed_user: Some("ada") },
        request_id: REQUEST_ID,
        trace_id: Some(TRACE_ID),
        span_id: Some(SPAN_ID),
        outcome: Some("CANCEL_OUTCOME_CANCELLED"),
        code: "OK",
        error_reason: None,
        http_status: Some(204),
        attempts: 1,
        request_sent: true,
        bulk: None,
        caller_waited: true,
    };
    let at = "2026-11-25T17:40:00.123456789Z".parse::<Timestamp>().expect("a time");
    c.bench_function("an audit record as a line", |b| b.iter(|| parts::line(black_box(&record), at)));
}

fn pages(c: &mut Criterion) {
    let json = page::json(page::QUERIES, false);
    let listing = parts::listing(json.clone()).expect("a page");
    let mut pages = c.benchmark_group("a page");
    pages.throughput(Throughput::Bytes(json.len() as u64));
    pages.bench_function("parsed", |b| b.iter(|| parts::listing(black_box(&json).clone())));
    pages.bench_function("as an answer of protobuf", |b| {
        b.iter_batched(
            || listing.clone(),
            |listing| {
                let queries = listing.queries.into_iter().map(Into::into).collect();
                let answer = ListQueriesResponse { queries, ..Default::default() };
                let mut encoded = BytesMut::new();
                answer.encode(&mut encoded).expect("there is room for all of it");
                encoded
            },
            BatchSize::SmallInput,
        );
    });
    pages.finish();
}

criterion_group!(benches, values, callers, outcomes, pages);
criterion_main!(benches);
