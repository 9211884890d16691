//! The subcommand `explain`: from the words typed to what is printed.
//!
//! Invariant: gathers packets, Services and listings; why a packet goes where it goes is
//! worked out in the library.

use crate::args::{BackendArg, BackendName, Input, LayoutArg, NetnsArg};
use crate::{
    Exit, backend, enter, explain_trace, flawed, print, read_documents, read_settings, unreadable,
};
use clap::{Args, ValueEnum};
use nfc::explain::{self, Asked, Explanation, Origin};
use nfc_backend::{AnyBackend, Apply as _, addresses};
use nfc_ir::{Family, Ir, Packet};
use nfc_kernel::Kernel;
use nfc_manifest::{Document, Settings, Warning};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Tell where a packet goes, and why
///
/// First in terms of Services: whose port it is for, which endpoints may get it and why
/// others may not, whose address the endpoint sees and why. Then in rules: everything that
/// the packet meets on its way, hook by hook, with the line of the listing and the map
/// element that decided. Where chance picks an endpoint, every way is drawn with its share.
///
/// The rules are those that the Services compile to, those of a dump (--rules), or those in
/// the kernel (--live). A dump may be kube-proxy's own: the output of iptables-save, of nft
/// list ruleset, or of ipvsadm --save -n. Manifests beside a dump tell what its rules should
/// do. A rule that the packet meets and that nfc does not know is an error, never a guess.
#[derive(Debug, Args)]
#[command(mut_arg("files", |arg| arg.required(false)))]
#[command(after_long_help = "\
Examples:
  nfc explain 'tcp 10.244.1.5 > 10.96.45.123:80' examples/web.yaml
  nfc explain 'udp 203.0.113.9 > 192.0.2.10:30443' -b nft -b iptables \\
      --node-ip 192.0.2.10 examples/web.yaml
  nfc explain 'tcp [fd00::1]:40000 > [fd00::2]:80' --output json manifests/
  iptables-save | nfc explain 'tcp 10.244.1.5 > 10.96.0.10:80' --rules -
  sudo nfc explain 'tcp 10.244.1.5 > 10.96.0.10:80' --live --netns lab
  sudo nfc explain 'tcp 10.244.1.5 > 10.96.45.123:80' --trace examples/web.yaml

Exit codes: 0 told, 1 the input is refused or has rules that nfc does not know, 2 the environment
lacks something, 3 the kernel refused.")]
pub(crate) struct Explain {
    /// Protocol (tcp, udp, sctp), source and destination: 'tcp 10.244.1.5 > 10.96.0.10:80'. The
    /// source may have a port; behind it may stand `in eth0`, or `from` node, pod or outside.
    #[arg(value_name = "PACKET")]
    packet: Asked,
    /// Whose rules to follow; twice for two side by side [default: nft, or what the dump is].
    #[arg(long, short, value_name = "BACKEND", value_enum)]
    backend: Vec<BackendName>,
    /// How Services lead to what is done with them (nft).
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    /// A listing whose rules to follow, - for standard input.
    #[arg(long, value_name = "LISTING", conflicts_with = "live")]
    rules: Option<PathBuf>,
    /// Follow the rules that nfc has in the kernel.
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    netns: NetnsArg,
    /// Where the packet comes from, when its address does not tell.
    #[arg(long, value_enum)]
    from: Option<From>,
    /// The interface that the packet comes in through.
    #[arg(long, value_name = "LINK", conflicts_with = "from")]
    in_interface: Option<String>,
    /// For people or for programs; docs/explain.md lists every member of the JSON.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Load the rules in a throwaway world as well and send packets there: what the kernel
    /// says of one, and where many landed. Needs root, and touches nothing outside.
    #[arg(long, conflicts_with_all = ["rules", "live"])]
    trace: bool,
    /// Draw all ways, however many endpoints there are.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    input: Input,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// A process of the node.
    Node,
    /// A pod of the node.
    Pod,
    /// Another machine.
    Outside,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Text.
    Text,
    /// JSON.
    Json,
}

pub(crate) fn run(args: &Explain) -> Result<(), Exit> {
    if args.input.files.is_empty() && args.rules.is_none() && !args.live {
        eprintln!("error: give manifests, a listing with --rules, or --live");
        return Err(Exit::Input);
    }
    let listing = args.rules.as_deref().map(read_listing).transpose()?;
    let backends = backends(args, listing.as_deref())?;
    let asked = asked(args);
    let family = Family::of(asked.destination.ip());
    let settings = Settings { families: [family].into(), ..read_settings(&args.input)? };
    let documents = read_documents(&args.input.files)?;
    let mut irs = Vec::new();
    for backend in &backends {
        let settings = settings.clone().for_mode(backend.mode());
        let (ir, warnings) = services(&documents, &settings, family)?;
        // All modes warn of the same; rules alone leave nothing to warn of.
        if irs.is_empty() && !documents.is_empty() {
            eprint!("{}", nfc_manifest::render_warnings(&warnings));
        }
        irs.push(ir);
    }
    let _inside = enter(args.netns.netns.as_deref())?;
    let mut explanations = Vec::new();
    for (backend, ir) in backends.iter().zip(&irs) {
        let side = Side { args, backend: backend.as_ref(), ir };
        explanations.push(side.explain(&asked, listing.as_deref())?);
    }
    print(&answer(args, &explanations))
}

fn answer(args: &Explain, explanations: &[Explanation<'_>]) -> String {
    if args.output == Output::Json {
        return format!("{:#}\n", explain::document(explanations));
    }
    let texts: Vec<_> = explanations.iter().map(|e| explain::text(e, args.all)).collect();
    texts.join("\n")
}

/// The packet, with what the flags add.
fn asked(args: &Explain) -> Asked {
    let named = args.in_interface.clone().map(Origin::Interface);
    let from = args.from.map(|from| match from {
        From::Node => Origin::Node,
        From::Pod => Origin::Pod,
        From::Outside => Origin::Outside,
    });
    Asked { origin: named.or(from).or_else(|| args.packet.origin.clone()), ..args.packet.clone() }
}

fn read_listing(path: &Path) -> Result<String, Exit> {
    let document = nfc_manifest::source::read_file(path);
    document.map(|document| document.text).map_err(|error| unreadable(&[error]))
}

/// The backends asked for; for a listing, the one whose tool prints such.
fn backends(args: &Explain, listing: Option<&str>) -> Result<Vec<Box<dyn AnyBackend>>, Exit> {
    let mut names = args.backend.clone();
    if names.is_empty() {
        names.push(listing.map_or(BackendName::Nft, kind));
    }
    let asked = |name| BackendArg { backend: name, layout: args.layout };
    names.into_iter().map(|name| backend(&asked(name))).collect()
}

/// Which tool printed a listing.
fn kind(listing: &str) -> BackendName {
    let begins = |heads: &[&str]| listing.lines().any(|l| heads.iter().any(|h| l.starts_with(h)));
    if begins(&["-A -t ", "-A -u ", "-A --sctp-service "]) {
        BackendName::Ipvs
    } else if begins(&["*"]) {
        BackendName::Iptables
    } else {
        BackendName::Nft
    }
}

/// The Services of one family; none where only rules are asked about, but the node's
/// settings all the same.
fn services(
    documents: &[Document],
    settings: &Settings,
    family: Family,
) -> Result<(Ir, Vec<Warning>), Exit> {
    let loaded = nfc_manifest::load(documents, settings);
    let mut loaded = loaded.map_err(|diagnostics| flawed(&diagnostics))?;
    let ir = loaded.irs.remove(&family).unwrap_or_else(|| Ir::empty(family));
    Ok((ir, loaded.warnings))
}

/// One backend's part.
struct Side<'a> {
    args: &'a Explain,
    backend: &'a dyn AnyBackend,
    ir: &'a Ir,
}

impl<'a> Side<'a> {
    fn explain(&self, asked: &Asked, listing: Option<&str>) -> Result<Explanation<'a>, Exit> {
        let live = if self.args.live { Some(self.read_kernel()?) } else { None };
        let mut node = self.ir.node().clone();
        if let Some(live) = &live {
            node.addresses.clone_from(&live.addresses);
        }
        let packet = asked.on(&node).map_err(|error| {
            eprintln!("error: {error}");
            Exit::Input
        })?;
        match listing.or(live.as_ref().map(|live| live.listing.as_str())) {
            Some(listing) => self.follow(listing, &node.addresses, &packet),
            None => self.compile(&packet),
        }
    }

    fn compile(&self, packet: &Packet) -> Result<Explanation<'a>, Exit> {
        let told = explain::explain(self.backend, self.ir, packet);
        let mut explanation = told.map_err(|error| {
            eprintln!("error: the text of {}, {error}; that is a bug", self.backend.name());
            Exit::Environment
        })?;
        if self.args.trace {
            let trial = explain_trace::trace(self.backend, self.ir, packet)?;
            explanation.kernel = Some(trial.kernel);
            explanation.landings = trial.landings;
        }
        Ok(explanation)
    }

    fn follow(
        &self,
        listing: &str,
        addresses: &[IpAddr],
        packet: &Packet,
    ) -> Result<Explanation<'a>, Exit> {
        let told = explain::explain_listing(self.backend, listing, addresses, packet);
        let mut explanation = told.map_err(|error| {
            eprintln!("error: the {} listing, {error}", self.backend.name());
            if self.backend.name() == "nft" && listing.contains("chain KUBE-SERVICES") {
                eprintln!(
                    "help: these are rules of iptables-nft; give the output of iptables-save"
                );
            }
            Exit::Input
        })?;
        if !self.args.input.files.is_empty() {
            explanation.meaning = Some(explain::meaning(self.ir, self.backend.mode(), packet));
        }
        Ok(explanation)
    }

    /// The rules in the kernel, and the node's addresses.
    fn read_kernel(&self) -> Result<Live, Exit> {
        let family = self.ir.family();
        let mut questions = self.backend.listing(family);
        questions.push(addresses::question());
        let mut answers = Kernel::new().ask(&questions).map_err(|refusal| {
            eprintln!("error: {}, {family}: {refusal}", self.backend.name());
            Exit::from(&refusal)
        })?;
        let addresses = answers.pop().map_or_else(Vec::new, |answer| addresses::read(&answer));
        let texts = answers.iter().map(|answer| String::from_utf8_lossy(&answer.0));
        let listing: String = texts.collect();
        if listing.trim().is_empty() {
            let name = self.backend.name();
            eprintln!("error: {name} has no {family} rules here; `nfc apply` loads some");
            return Err(Exit::Environment);
        }
        Ok(Live { listing, addresses })
    }
}

struct Live {
    listing: String,
    addresses: Vec<IpAddr>,
}
