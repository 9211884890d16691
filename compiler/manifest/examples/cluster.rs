//! `cargo run -p nfc-manifest --example cluster -- json 100000 5 > big.json`: prints a
//! made-up cluster, to try a big input on. Forms: `json`, `yaml`, `documents`.
#![allow(missing_docs, dead_code, reason = "the module is shared with tests and benches")]

#[path = "../tests/cluster/mod.rs"]
mod cluster;

use cluster::Form;
use std::io::{BufWriter, Error, Write as _, stdout};

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let form = match arguments.next().as_deref() {
        Some("yaml") => Form::Yaml,
        Some("documents") => Form::Documents,
        _ => Form::Json,
    };
    let mut number = |default| arguments.next().map_or(Ok(default), |n| n.parse());
    let services = number(1_000).map_err(Error::other)?;
    let endpoints = number(5).map_err(Error::other)?;
    let mut to = BufWriter::new(stdout().lock());
    cluster::write(&mut to, form, services, endpoints)?;
    to.flush()
}
