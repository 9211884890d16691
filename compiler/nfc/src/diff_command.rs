//! The subcommand `diff`, and `apply --dry-run`: from the words typed to what is printed.
//!
//! Invariant: gathers Services and asks the kernel; what differs is worked out in the
//! library and by the backends.

use crate::args::{BackendArg, BackendName, FamilyArg, Input, LayoutArg, NetnsArg};
use crate::explain_command::Output;
use crate::{Exit, backend, enter, flawed, print, read_documents, read_settings, warn_unsupported};
use clap::Args;
use nfc::diff;
use nfc_backend::{AnyBackend, AnyPatch, Apply as _, Refusal};
use nfc_ir::{Family, Ir, ProxyMode};
use nfc_kernel::Kernel;
use nfc_manifest::{Document, Settings};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tell what differs between two sets of Services, and what carries it out
///
/// First in terms of Services: which came and went, and what became of their addresses,
/// policies and of every endpoint's share of the traffic. Then, for each --backend, the exact
/// patch: the text of the transaction for nft, what iptables-restore --noflush takes, the
/// commands of ipvsadm.
///
/// With --live the rules that nfc has in the kernel stand in for the old Services, and the
/// patch is the one that `nfc apply` would carry out. nft and ipvs compare all that they find
/// there; iptables writes its chains anew whatever they hold.
#[derive(Debug, Args)]
#[command(
    override_usage = "nfc diff [OPTIONS] <OLD> <NEW>\n       nfc diff [OPTIONS] --live <NEW>"
)]
#[command(mut_arg("files", |arg| arg.num_args(1..=2).value_name("OLD> <NEW").help(
    "The old manifests and the new: each a file, a folder, or - for standard input"
)))]
#[command(after_long_help = "\
Examples:
  nfc diff old.yaml new.yaml
  nfc diff -b nft -b iptables --family ipv4 old/ new/
  kubectl get services,endpointslices -A -o yaml \\
      | sudo nfc diff --live --netns lab -

Exit codes: 0 no difference, 4 there is one; 1 input refused, 2 the environment lacks something,
3 the kernel refused. Only 0 and 4 say that the comparison was made.")]
pub(crate) struct Diff {
    /// Whose patch to print, several times for several [default: none, with --live nft].
    #[arg(long, short, value_name = "BACKEND", value_enum)]
    backend: Vec<BackendName>,
    /// How Services lead to what is done with them (nft).
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    /// Compare with what nfc has in the kernel.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    netns: NetnsArg,
    /// For people or for programs; docs/diff.md lists every member of the JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    input: Input,
}

type Irs = BTreeMap<Family, Ir>;

/// A patch in the backend's words; empty when nothing differs.
struct Told {
    backend: &'static str,
    family: Family,
    text: String,
}

pub(crate) fn run(args: &Diff) -> Result<(), Exit> {
    match (args.live, args.input.files.as_slice()) {
        (true, [new]) => run_live(args, new),
        (false, [old, new]) => run_manifests(args, old, new),
        (true, _) => refuse("--live stands in for the old manifests; give only the new ones"),
        (false, _) => refuse("give the old and the new manifests, or --live and the new ones"),
    }
}

fn refuse(why: &str) -> Result<(), Exit> {
    eprintln!("error: {why}");
    Err(Exit::Input)
}

fn run_manifests(args: &Diff, old: &PathBuf, new: &PathBuf) -> Result<(), Exit> {
    let backends = backends(args)?;
    let settings = read_settings(&args.input)?;
    // What is wrong with either side is said before one gives up.
    let (old, new) = (documents(old), documents(new));
    let (old, new) = (old?, new?);
    // Where nobody's rules are asked for, any mode will do: Services are the same in all.
    let mode = backends.first().map_or(ProxyMode::Nftables, |backend| backend.mode());
    let (before, after) = (load(&settings, &old, mode, false), load(&settings, &new, mode, true));
    let (before, after) = (before?, after?);
    let differences = diff::differences(&before, &after);
    let mut told = Vec::new();
    for backend in &backends {
        // Each mode reads the settings in its own way.
        let before = load(&settings, &old, backend.mode(), false)?;
        let after = load(&settings, &new, backend.mode(), false)?;
        told.extend(patches(backend.as_ref(), &before, &after));
    }
    told.retain(|told| !told.text.is_empty());
    let is_same = differences.is_empty() && told.is_empty();
    show(args.output, Some(&differences), &told)?;
    if is_same { Ok(()) } else { Err(Exit::Different) }
}

fn run_live(args: &Diff, new: &PathBuf) -> Result<(), Exit> {
    let backends = backends(args)?;
    let settings = read_settings(&args.input)?;
    let new = documents(new)?;
    let mut wanted = Vec::new();
    for (i, backend) in backends.iter().enumerate() {
        wanted.push(load(&settings, &new, backend.mode(), i == 0)?);
    }
    let _inside = enter(args.netns.netns.as_deref())?;
    let mut told = Vec::new();
    for (backend, irs) in backends.iter().zip(&wanted) {
        told.extend(on_kernel(backend.as_ref(), irs, args.input.family)?);
    }
    show(args.output, None, &told)?;
    if told.is_empty() { Ok(()) } else { Err(Exit::Different) }
}

/// Tells what loading `irs` would change, and changes nothing.
pub(crate) fn dry_run(
    backend: &dyn AnyBackend,
    irs: &Irs,
    family: Option<FamilyArg>,
) -> Result<(), Exit> {
    let told = on_kernel(backend, irs, family)?;
    show(Output::Text, None, &told)?;
    if told.is_empty() { Ok(()) } else { Err(Exit::Different) }
}

/// The backends asked for. What is live has to be somebody's.
fn backends(args: &Diff) -> Result<Vec<Box<dyn AnyBackend>>, Exit> {
    let mut names = args.backend.clone();
    if names.is_empty() && args.live {
        names.push(BackendName::Nft);
    }
    let asked = |name| BackendArg { backend: name, layout: args.layout };
    names.into_iter().map(|name| backend(&asked(name))).collect()
}

fn documents(path: &PathBuf) -> Result<Vec<Document>, Exit> {
    read_documents(std::slice::from_ref(path))
}

fn load(
    settings: &Settings,
    documents: &[Document],
    mode: ProxyMode,
    warns: bool,
) -> Result<Irs, Exit> {
    let settings = settings.clone().for_mode(mode);
    let loaded = nfc_manifest::load(documents, &settings).map_err(|d| flawed(&d))?;
    if warns {
        eprint!("{}", nfc_manifest::render_warnings(&loaded.warnings));
    }
    Ok(loaded.irs)
}

/// The patches from some Services to others.
fn patches(backend: &dyn AnyBackend, old: &Irs, new: &Irs) -> Vec<Told> {
    let families = Family::ALL.into_iter();
    let families = families.filter(|family| old.contains_key(family) || new.contains_key(family));
    let lower = |irs: &Irs, family: Family, warns: bool| match irs.get(&family) {
        Some(ir) => {
            let lowered = backend.lower(ir);
            if warns {
                warn_unsupported(backend.name(), &lowered.unsupported);
            }
            lowered.program
        }
        None => backend.empty(family),
    };
    let told = families.map(|family| {
        let patch = backend.diff(&lower(old, family, false), &lower(new, family, true));
        tell(backend, family, &patch)
    });
    told.collect()
}

fn tell(backend: &dyn AnyBackend, family: Family, patch: &AnyPatch) -> Told {
    let is_empty = backend.is_empty(patch);
    let text = if is_empty { String::new() } else { backend.render_patch(patch) };
    Told { backend: backend.name(), family, text }
}

/// The patches from what is in the kernel to some Services; none for families that are as
/// they should be.
fn on_kernel(
    backend: &dyn AnyBackend,
    irs: &Irs,
    family: Option<FamilyArg>,
) -> Result<Vec<Told>, Exit> {
    let mut kernel = Kernel::new();
    let mut all = Vec::new();
    for family in family.unwrap_or(FamilyArg::Both).families() {
        let lowered = irs.get(&family).map(|ir| backend.lower(ir));
        let answers = match (kernel.ask(&backend.questions(family)), &lowered) {
            (Ok(answers), _) => answers,
            // What the environment cannot have is not there.
            (Err(Refusal::Missing { .. }), None) => continue,
            (Err(refusal), _) => {
                eprintln!("error: {}, {family}: {refusal}", backend.name());
                return Err(Exit::from(&refusal));
            }
        };
        let patch = match &lowered {
            Some(lowered) => {
                warn_unsupported(backend.name(), &lowered.unsupported);
                backend.replace(&answers, &lowered.program)
            }
            None => backend.replace(&answers, &backend.empty(family)),
        };
        all.push(tell(backend, family, &patch));
    }
    all.retain(|told| !told.text.is_empty());
    Ok(all)
}

fn show(
    output: Output,
    differences: Option<&[diff::Difference]>,
    patches: &[Told],
) -> Result<(), Exit> {
    if output == Output::Json {
        let patches: Vec<_> =
            patches.iter().map(|told| (told.backend, told.family, told.text.clone())).collect();
        return print(&format!("{:#}\n", diff::document(differences, &patches)));
    }
    let mut text = diff::text(differences.unwrap_or_default());
    for Told { backend, family, text: patch } in patches {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}{backend}, {family}:\n{patch}"));
    }
    print(&text)
}
