//! The subcommand `doctor`: from the words typed to what is printed.
//!
//! Invariant: gathers Services and facts; what is wrong is worked out in the library.

use crate::args::{BackendArg, FamilyArg, Input, NetnsArg};
use crate::explain_command::Output;
use crate::{Exit, backend, enter, print, read_services, some_services};
use clap::Args;
use nfc::doctor::standing::Standing;
use nfc::doctor::{self, Finding, Kind, Patient, Request, connections, facts, report};
use nfc_kernel::conntrack;
use std::time::Duration;

/// Find out why a Service cannot be reached
///
/// Looks at the node it runs on, or at the one in --netns, and holds it against the
/// manifests: whether the rules are there and as compiled, who else has rules for Services,
/// what the kernel's switches say, whether the endpoints listen and answer, which connections
/// lead to endpoints that are gone or go past the rules. What is wrong is listed with what was
/// read and where, and a command to try, the causes first. Then it is told what moves: how
/// many connections each Service has, and to which endpoints they went.
///
/// Nothing is changed without --fix. Every endpoint in use is asked once whether it listens,
/// with a connection that is closed at once or an empty datagram; --passive leaves that out.
/// Rules of others are not read: --look-at-foreign does, which no other subcommand will.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc doctor --cluster-cidr 10.244.0.0/16 manifests/
  kubectl get services,endpointslices,nodes -A -o yaml \\
      | sudo nfc doctor --node worker-1 -
  sudo nfc doctor --look-at-foreign --backend iptables manifests/
  sudo nfc doctor --for 10 manifests/     # what moves within ten seconds
  sudo nfc doctor --fix manifests/        # forget connections that lead nowhere
  sudo nfc doctor --output json manifests/ | jq -r '.findings[0].code'

Exit codes: 0 healthy, 1 something is wrong or the input is refused, 2 the environment lacks
something, 3 the kernel refused to tell.")]
pub(crate) struct Doctor {
    #[command(flatten)]
    backend: BackendArg,
    #[command(flatten)]
    netns: NetnsArg,
    /// Forget the connections that lead to endpoints that are gone or go past the rules, and no
    /// others.
    #[arg(long)]
    fix: bool,
    /// Read twice, so many seconds apart, and tell what moved in between.
    #[arg(long = "for", value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
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
    let backend = backend(&args.backend)?;
    let irs = some_services(read_services(&args.input, backend.as_ref())?, "")?;
    let _inside = enter(args.netns.netns.as_deref())?;
    let mut bare = args.input.family.unwrap_or(FamilyArg::Both).families();
    bare.retain(|family| !irs.contains_key(family));
    let request = Request {
        bare,
        watched: args.seconds.map(Duration::from_secs),
        foreign: args.look_at_foreign,
        passive: args.passive,
    };
    let facts = facts::read(backend.as_ref(), &irs, &request).map_err(|refusal| {
        eprintln!("error: {}: {refusal}", backend.name());
        Exit::from(&refusal)
    })?;
    let (name, mode) = (backend.name(), backend.mode());
    let patient = Patient { backend: name, mode, irs: &irs, facts: &facts };
    let mut findings = doctor::diagnose(patient);
    if args.fix {
        mend(patient, &mut findings)?;
    }
    print(&match args.output {
        Output::Text => report::text(patient, &findings),
        Output::Json => format!("{:#}\n", report::json(patient, &findings)),
    })?;
    if findings.iter().all(|finding| finding.fixed) { Ok(()) } else { Err(Exit::Code(1)) }
}

fn mend(patient: Patient<'_>, findings: &mut [Finding]) -> Result<(), Exit> {
    for connection in connections::to_forget(patient) {
        conntrack::forget_one(connection).map_err(|error| {
            eprintln!("error: cannot forget a connection: {error}");
            Exit::Environment
        })?;
    }
    // What went past rules that are not there would only do so again.
    let is_loaded = patient.facts.rules.values().all(|rules| *rules == Standing::AsCompiled);
    for finding in findings {
        finding.fixed = match finding.kind {
            Kind::StaleConnections => true,
            Kind::RulesBypassed => is_loaded,
            _ => false,
        };
    }
    Ok(())
}
