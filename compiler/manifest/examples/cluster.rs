//! `cargo run -p nfc-manifest --example cluster -- json 100000 5 > big.json`: prints a
//! made-up cluster, to try a big input on. Forms: `json`, `yaml`, `documents`.

use nfc_manifest::synth::{self, Form};
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
    synth::write(&mut to, form, services, endpoints)?;
    to.flush()
}
