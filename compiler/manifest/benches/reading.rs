//! `cargo bench -p nfc-manifest --bench reading`: what it costs to read a cluster's dump, in
//! the forms that kubectl prints it in. Needs no root.
//!
//! What comes behind reading, `lower` for each backend, is in `cargo bench -p nfc-bench
//! --bench stages`.

use criterion::{BenchmarkId, Criterion, Throughput};
use nfc_manifest::synth::{self, Form};
use nfc_manifest::{Document, Settings, load};

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const ENDPOINTS: u32 = 5;

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for (name, form) in
        [("json", Form::Json), ("yaml list", Form::Yaml), ("yaml documents", Form::Documents)]
    {
        let mut group = criterion.benchmark_group(name);
        for services in SIZES {
            let document = document(form, services);
            group.throughput(Throughput::Bytes(document.text.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(services), &document, |b, d| {
                b.iter(|| read(d));
            });
            assert_eq!(read(&document), services as usize, "a benchmark is a test");
        }
        group.finish();
    }
    criterion.final_summary();
}

fn document(form: Form, services: u32) -> Document {
    let mut text = Vec::new();
    // Writing into memory does not fail, and the text is made of texts.
    let written = synth::write(&mut text, form, services, ENDPOINTS);
    assert!(written.is_ok(), "{written:?}");
    Document { name: "dump".to_owned(), text: String::from_utf8_lossy(&text).into_owned() }
}

/// How many Services are read.
fn read(document: &Document) -> usize {
    let settings = Settings { hostname: "node-0001".to_owned(), ..Settings::default() };
    let loaded = load(std::slice::from_ref(document), &settings);
    loaded.map_or(0, |l| l.irs.values().map(|ir| ir.services().len()).sum())
}
