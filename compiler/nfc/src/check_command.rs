//! The subcommand `check`: from the words typed to what is printed.
//!
//! Invariant: gathers texts; what is wrong with them is found in the library.

use crate::args::Input;
use crate::{Exit, print, read_documents, read_settings};
use clap::{Args, ValueEnum};
use nfc::check;
use nfc_manifest::Document;

/// Tell what kube-proxy would make of manifests that their author may not expect
///
/// Services whose clients would be refused or dropped, settings that have no effect, and what
/// loading refuses or warns of: each with a code, its place, why it bites and what to do.
/// docs/check.md lists all codes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  nfc check manifests/
  kubectl get services,endpointslices,nodes,servicecidrs -A -o yaml \\
      | nfc check --node worker-1 -
  nfc check --output sarif manifests/ > nfc.sarif

Exit codes: 0 nothing worse than warnings was found, 1 errors were found or the input cannot be
read, 2 standard output cannot be written.")]
pub(crate) struct Check {
    /// For people, for programs, or for code hosts that show findings beside the lines.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
    /// The codes to leave out: NFC-218.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    ignore: Vec<String>,
    #[command(flatten)]
    input: Input,
}

/// The form of the findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Text.
    Text,
    /// JSON.
    Json,
    /// SARIF 2.1.0.
    Sarif,
}

pub(crate) fn run(args: &Check) -> Result<(), Exit> {
    if let Some(code) = args.ignore.iter().find(|code| check::rules::find(code).is_none()) {
        eprintln!("error: no finding has the code {code}; docs/check.md lists those there are");
        return Err(Exit::Input);
    }
    let settings = read_settings(&args.input)?;
    let documents = read_documents(&args.input.files)?;
    let mut findings = check::check(&documents, &settings);
    if findings.is_empty() && !has_services(&documents) {
        eprintln!("warning: the input has no Service, so there is nothing to check");
    }
    findings.retain(|finding| !args.ignore.iter().any(|code| code == finding.rule.code));
    print(&match args.output {
        Form::Text => check::text(&findings, &documents),
        Form::Json => format!("{:#}\n", check::document(&findings)),
        Form::Sarif => format!("{:#}\n", check::sarif(&findings)),
    })?;
    if check::has_errors(&findings) { Err(Exit::Input) } else { Ok(()) }
}

/// Whether there is anything to check; asked where nothing was found.
fn has_services(documents: &[Document]) -> bool {
    nfc_manifest::written(documents).iter().any(|object| object.is_a("Service"))
}
