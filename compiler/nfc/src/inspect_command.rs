//! The subcommand `inspect`: from the words typed to what is printed.
//!
//! Invariant: reads and prints; what is counted is worked out in the library.

use crate::args::{BackendArg, FamilyArg, NetnsArg};
use crate::explain_command::Output;
use crate::{Exit, backend, enter, print, screen};
use clap::Args;
use nfc::inspect::{self, Inspection};
use nfc::listing;
use nfc_backend::{AnyBackend, Apply as _, Refusal, addresses};
use nfc_ir::Family;
use nfc_kernel::{Kernel, conntrack};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// How often --watch looks again.
const WATCH: Duration = Duration::from_secs(1);

/// Show what nfc has in the kernel, and who uses it
///
/// Chains, rules, elements, and how many more fit into each set; then the Services with the
/// most tracked connections, with the endpoints they went to and the clients they came from.
/// Only nfc's own rules are read, and no manifest is needed: the rules carry the Services'
/// names (IPVS has addresses only). Packets are counted where the kernel does
/// (net.netfilter.nf_conntrack_acct).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  sudo nfc inspect
  sudo nfc inspect --backend iptables --netns lab --top 3
  sudo nfc inspect --watch
  sudo nfc inspect --output json \\
      | jq '.services[] | select(.connections > 100) | .service'

Exit codes: 0 shown, 1 the arguments are refused, 2 the environment lacks something, or has no
rules of nfc's, 3 the kernel refused to tell.")]
pub(crate) struct Inspect {
    #[command(flatten)]
    backend: BackendArg,
    #[command(flatten)]
    netns: NetnsArg,
    /// Which address families to look at.
    #[arg(long, value_enum, default_value_t = FamilyArg::Both)]
    family: FamilyArg,
    /// How many Services, and of each how many endpoints and clients.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    top: usize,
    /// Look again every second, on a terminal, until Ctrl-C: connections first, and as much as
    /// fits.
    #[arg(long, conflicts_with = "output")]
    watch: bool,
    /// For people or for programs; docs/inspect.md lists every member of the JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs it.
pub(crate) fn run(args: &Inspect) -> Result<(), Exit> {
    let backend = backend(&args.backend)?;
    if args.watch && !io::stdout().is_terminal() {
        eprintln!("error: --watch draws on a terminal, and standard output is none");
        return Err(Exit::Input);
    }
    let _inside = enter(args.netns.netns.as_deref())?;
    loop {
        let inspection = look(backend.as_ref(), &args.family.families())?;
        let name = backend.name();
        let tables = || inspect::tables_text(name, &inspection);
        let services = || inspect::services_text(&inspection, args.top);
        if !args.watch {
            return print(&match args.output {
                Output::Text => tables() + &services(),
                Output::Json => format!("{:#}\n", inspect::json(name, &inspection)),
            });
        }
        // What moves comes first: what does not fit is left out at the end.
        let text = services() + &tables();
        let text = screen::fitted(&text, screen::lines(io::stdout()), "line");
        // To the upper left corner, and clear (ECMA-48 CUP, ED); on a narrow terminal a line that
        // wraps would be two (DECAWM off, and on).
        print(&format!("\x1b[H\x1b[2J\x1b[?7l{text}\x1b[?7h"))?;
        std::thread::sleep(WATCH);
    }
}

fn look(backend: &dyn AnyBackend, families: &BTreeSet<Family>) -> Result<Inspection, Exit> {
    let kernel = &mut Kernel::new();
    let refused = |refusal: Refusal| {
        eprintln!("error: {}: {refusal}", backend.name());
        Exit::from(&refusal)
    };
    let mut listings = BTreeMap::new();
    for family in families {
        let listing = listing::read(backend, *family, kernel).map_err(refused)?;
        if !listing.places.is_empty() {
            listings.insert(*family, listing);
        }
    }
    if listings.is_empty() {
        eprintln!("error: {} has no rules of nfc's here; `nfc apply` loads some", backend.name());
        return Err(Exit::Environment);
    }
    let answers = kernel.ask(&[addresses::question()]).map_err(refused)?;
    let addresses = answers.first().map(addresses::read).unwrap_or_default();
    let connections = conntrack::list().map_err(|error| {
        eprintln!("error: cannot list tracked connections: {error}");
        Exit::Environment
    })?;
    Ok(inspect::inspect(&listings, &connections, &addresses))
}
