//! The subcommand `doctor`: from the words typed to what is printed.
//!
//! Invariant: gathers Services and facts; what is wrong is worked out in the library.

use crate::args::{Input, NetnsArg};
use crate::explain_command::Output;
use crate::lab_command::BackendOrNft;
use crate::{Exit, backend, enter, print, read_services};
use clap::Args;
use nfc::doctor::{self, Finding, Kind, Patient, Request, facts, report};
use nfc_backend::Refusal;
use nfc_ir::{Family, Ir};
use nfc_kernel::conntrack;
use std::collections::BTreeMap;

/// Find out why a Service cannot be reached
///
/// Looks at the node it runs on, or at the one in --netns, and holds it against the
/// manifests: whether the rules are there and as compiled, who else has rules for Services,
/// what the kernel's switches say, whether the endpoints listen, which connections lead to
/// endpoints that are gone. What is wrong is listed with what was read and where, and a
/// command to try, the causes first.
///
/// Nothing is changed without --fix. Every endpoint in use is asked once whether it listens,
/// with a connection that is closed at once or an empty datagram; --passive leaves that out.
/// Rules of others are not read: --look-at-foreign does, which no other subcommand will.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc doctor --cluster-cidr 10.244.0.0/16 manifests/
  kubectl get services,endpointslices,nodes -A -o yaml | sudo nfc doctor --node worker-1 -
  sudo nfc doctor --look-at-foreign --backend iptables manifests/
  sudo nfc doctor --fix manifests/        # forget connections to endpoints that are gone
  sudo nfc doctor --output json manifests/ | jq -r '.findings[0].kind'

Exit codes: 0 healthy, 1 something is wrong or the input is refused, 2 the environment lacks
something.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    backend: BackendOrNft,
    #[command(flatten)]
    netns: NetnsArg,
    /// Forget the connections that lead to endpoints that are gone, and no others.
    #[arg(long)]
    fix: bool,
    /// Read the rules of others too, for some that drop packets to Services.
    #[arg(long)]
    look_at_foreign: bool,
    /// Send nothing: do not ask endpoints whether they listen.
    #[arg(long)]
    passive: bool,
    /// For people or for programs; docs/doctor.md lists every member of the JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    input: Input,
}

/// Runs it.
pub(crate) fn run(args: &Doctor) -> Result<(), Exit> {
    let backend = backend(&args.backend.asked())?;
    let irs = read_services(&args.input, backend.as_ref())?;
    let _inside = enter(args.netns.netns.as_deref())?;
    let request = Request { foreign: args.look_at_foreign, passive: args.passive };
    let facts = facts::read(backend.as_ref(), &irs, request).map_err(|refusal| {
        eprintln!("error: {}: {refusal}", backend.name());
        match refusal {
            Refusal::Refused { .. } => Exit::Kernel,
            Refusal::Missing { .. } | Refusal::Io { .. } => Exit::Environment,
        }
    })?;
    let (name, mode) = (backend.name(), backend.mode());
    let patient = Patient { backend: name, mode, irs: &irs, facts: &facts };
    let mut findings = doctor::diagnose(patient);
    if args.fix {
        mend(&irs, &facts, &mut findings)?;
    }
    print(&match args.output {
        Output::Text => report::text(patient, &findings),
        Output::Json => format!("{:#}\n", report::json(patient, &findings)),
    })?;
    if findings.iter().all(|finding| finding.fixed) { Ok(()) } else { Err(Exit::Code(1)) }
}

fn mend(
    irs: &BTreeMap<Family, Ir>,
    facts: &doctor::Facts,
    findings: &mut [Finding],
) -> Result<(), Exit> {
    for (_, connection) in doctor::stale_connections(irs, facts) {
        conntrack::forget_one(connection).map_err(|error| {
            eprintln!("error: cannot forget a connection: {error}");
            Exit::Environment
        })?;
    }
    let stale = findings.iter_mut().filter(|f| f.kind == Kind::StaleConnections);
    stale.for_each(|finding| finding.fixed = true);
    Ok(())
}
