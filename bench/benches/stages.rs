//! `cargo bench -p nfc-bench --bench stages`: the pure stages, one by one: reading
//! manifests, and for each backend lower, diff and encode. Needs no root.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use nfc_backend::AnyBackend;
use nfc_ir::{Endpoint, Family, Ir, Node, Protocol, synth};
use nfc_manifest::{Document, Settings};
use std::fmt::Write as _;

const SIZES: [u32; 3] = [10, 100, 1_000];
const ENDPOINTS: u32 = 3;

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    read(&mut criterion);
    for backend in nfc::registry::all() {
        for services in SIZES {
            stages(&mut criterion, backend.as_ref(), services);
        }
    }
    criterion.final_summary();
}

/// Reading YAML, which is the slowest stage by far: what a cluster's dump costs.
fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for services in SIZES {
        let documents = [Document { name: "dump.yaml".to_owned(), text: manifests(services) }];
        let loaded = nfc_manifest::load(&documents, &Settings::default());
        let read = loaded.map_or(0, |l| l.irs.values().map(|ir| ir.services().len()).sum());
        assert_eq!(u32::try_from(read), Ok(services), "a benchmark is a test");
        group.throughput(Throughput::Elements(services.into()));
        group.bench_with_input(
            BenchmarkId::from_parameter(services),
            &documents,
            |b, documents| {
                b.iter(|| nfc_manifest::load(documents, &Settings::default()));
            },
        );
    }
    group.finish();
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

/// The same Services as Kubernetes objects.
fn manifests(services: u32) -> String {
    let mut text = String::new();
    for i in 0..services {
        let ip = synth::cluster_ip(Family::Ipv4, i);
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: svc-{i}, namespace: synth}}\n\
             spec:\n  clusterIP: {ip}\n  ports:\n  - {{protocol: TCP, port: 80, targetPort: 8080}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  \
             name: svc-{i}-a\n  namespace: synth\n  labels: {{kubernetes.io/service-name: svc-{i}}}\n\
             addressType: IPv4\nports:\n- {{protocol: TCP, port: 8080}}\nendpoints:\n"
        );
        for j in 0..ENDPOINTS {
            let endpoint = synth::endpoint(Family::Ipv4, i * ENDPOINTS + j).ip();
            let _ = writeln!(text, "- {{addresses: [{endpoint}], conditions: {{ready: true}}}}");
        }
    }
    text
}
