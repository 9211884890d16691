//! `cargo bench -p nfc-bench --bench stages`: the pure stages of each backend, one by one:
//! lower, diff and encode. Needs no root.
//!
//! What comes before them, reading manifests, is in `cargo bench -p nfc-manifest --bench
//! reading`.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use nfc_backend::AnyBackend;
use nfc_ir::{Endpoint, Family, Ir, Node, Protocol, synth};

const SIZES: [u32; 3] = [10, 100, 1_000];
const ENDPOINTS: u32 = 3;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    for backend in nfc::registry::all() {
        for services in SIZES {
            stages(&mut criterion, backend.as_ref(), services);
        }
    }
    criterion.final_summary();
}

/// A full load, and the change of one endpoint.
fn stages(criterion: &mut Criterion, backend: &dyn AnyBackend, services: u32) {
    let old = ir(services, false);
    let new = ir(services, true);
    let (empty, loaded) = (backend.empty(Family::Ipv4), backend.lower(&old).program);
    let changed = backend.lower(&new).program;
    let load = backend.diff(&empty, &loaded);
    let change = backend.diff(&loaded, &changed);
    let mut group = criterion.benchmark_group(backend.name());
    group.throughput(Throughput::Elements(services.into()));
    let name = |stage: &str| BenchmarkId::new(stage, services);
    group.bench_function(name("lower"), |b| {
        b.iter_batched(|| (), |()| backend.lower(&old), BatchSize::LargeInput);
    });
    group.bench_function(name("diff all"), |b| b.iter(|| backend.diff(&empty, &loaded)));
    group.bench_function(name("diff one endpoint"), |b| {
        b.iter(|| backend.diff(&loaded, &changed));
    });
    group.bench_function(name("encode all"), |b| b.iter(|| backend.encode(&load)));
    group.bench_function(name("encode one endpoint"), |b| b.iter(|| backend.encode(&change)));
    group.finish();
}

/// The Services of the bench; `one_more`: the first has an endpoint more.
fn ir(services: u32, one_more: bool) -> Ir {
    let mut all: Vec<_> =
        (0..services).map(|i| synth::service(Family::Ipv4, Protocol::Tcp, i, ENDPOINTS)).collect();
    if let Some(first) = all.first_mut().filter(|_| one_more) {
        first.endpoints.push(Endpoint::ready(synth::endpoint(Family::Ipv4, services * ENDPOINTS)));
    }
    let made = Ir::new(Family::Ipv4, Node::default(), all);
    made.unwrap_or_else(|flaws| unreachable!("made-up Services are valid: {flaws:?}"))
}
