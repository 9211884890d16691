//! The command line of the bench.
//!
//! Invariant: turns words into a scenario and a folder, and the end of a run into an exit
//! code; measures nothing.

use crate::run::{self, Done, Order, Study};
use crate::scenario::{Overrides, Scenario, Transport};
use crate::updates::{UpdateScenario, memory};
use anyhow::{Context as _, bail};
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measures what Service rules cost on this machine's kernel, and draws it: the first packet
/// of a connection, later packets, loading all rules, and adding one endpoint.
///
/// Everything happens in network namespaces of its own, which vanish with the process; the
/// machine's own network is not touched.
#[derive(Debug, Parser)]
#[command(name = "scale", bin_name = "cargo bench --bench scale --")]
struct Arguments {
    /// Numbers of Services, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "N,N,...")]
    services: Option<Vec<u32>>,
    /// Endpoints of each Service.
    #[arg(long, value_name = "N")]
    endpoints: Option<u32>,
    /// Backends, separated by commas; `none` is the baseline, `kube-proxy-1.33`, `-1.36` and
    /// `-1.37` are the rulesets of kube-proxy's nftables mode.
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME,...")]
    backends: Option<Vec<String>>,
    /// Protocol of the packets.
    #[arg(long, value_enum)]
    protocol: Option<Transport>,
    /// How often everything is measured, each time in fresh namespaces.
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// From which order, targets and intervals follow.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// A first look: fewer sizes, rounds and packets.
    #[arg(long)]
    quick: bool,
    /// `default`, `quick`, `update` (every kind of update, memory, packets meanwhile), or a
    /// file with a scenario of your own, as in `bench/scenarios`.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "quick")]
    scenario: Option<PathBuf>,
    /// Folder for the results, from the root of the workspace [default: results/DATE-HOST].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the clock counts: `guest` when this runs in the instruction-counting guest.
    #[arg(long, value_name = "NAME", default_value = "native", value_parser = ["native", "guest"])]
    instrument: String,
    /// The command for the record, when a script runs this program elsewhere.
    #[arg(long, value_name = "TEXT", hide = true)]
    command: Option<String>,
    /// Only loads the first size with this backend here, and prints what memory that took.
    #[arg(long, value_name = "NAME", hide = true)]
    load_once: Option<String>,
    /// What Cargo appends; it means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Runs the bench with the process's arguments; `results` is the folder for results when
/// the arguments name none.
#[must_use]
pub fn main(results: &Path) -> ExitCode {
    let arguments = Arguments::parse();
    match carry_out(arguments, results) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "scale: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

/// 2 when the environment lacks something, 1 for everything else.
fn code(error: &anyhow::Error) -> u8 {
    let lacks = error.chain().any(|cause| cause.is::<nfc_kernel::Missing>());
    if lacks { 2 } else { 1 }
}

fn carry_out(arguments: Arguments, results: &Path) -> anyhow::Result<()> {
    if let Some(backend) = &arguments.load_once {
        let services = arguments.services.as_ref().and_then(|all| all.first().copied());
        return memory::load_once(&memory::Order {
            backend: backend.clone(),
            services: services.unwrap_or(1),
            endpoints: arguments.endpoints.unwrap_or(1),
            protocol: arguments.protocol.unwrap_or(Transport::Udp),
        });
    }
    if arguments.instrument == "guest" && std::env::var_os("NFC_GUEST").is_none() {
        bail!("--instrument guest is for the guest, where clocks count: run scripts/bench-guest");
    }
    let order = Order {
        command: arguments.command.clone().unwrap_or_else(|| command(std::env::args_os().skip(1))),
        instrument: arguments.instrument.clone(),
        out: arguments.out.as_ref().map(|out| results.join("..").join(out)),
        results: results.to_owned(),
        study: study(arguments)?,
    };
    let Done { report, voided } = run::run(&order)?;
    let report = report.canonicalize().unwrap_or(report);
    writeln!(io::stdout(), "{}", report.display()).context("cannot say where the report is")?;
    match voided {
        0 => Ok(()),
        n => bail!("{n} cells are void, for the reasons at the end of the report"),
    }
}

fn study(arguments: Arguments) -> anyhow::Result<Study> {
    let Arguments { services, endpoints, backends, protocol, rounds, seed, .. } = arguments;
    let overrides = Overrides { services, endpoints, backends, protocol, rounds, seed };
    let name = arguments.scenario.as_deref().and_then(Path::to_str);
    let base = match (name, &arguments.scenario) {
        (None | Some("default"), _) if !arguments.quick => Study::Packets(Scenario::default_one()?),
        (None | Some("quick"), _) => Study::Packets(Scenario::quick()?),
        (Some("update"), _) => Study::Updates(UpdateScenario::update()?),
        (_, path) => from_file(path.as_deref().unwrap_or(Path::new("")))?,
    };
    Ok(match base {
        Study::Packets(scenario) => Study::Packets(scenario.with(overrides)?),
        Study::Updates(scenario) => Study::Updates(scenario.with(overrides)?),
    })
}

fn from_file(path: &Path) -> anyhow::Result<Study> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let names_a_study = text.parse::<toml::Table>().is_ok_and(|t| t.contains_key("study"));
    let study = if names_a_study {
        UpdateScenario::from_toml(&text).map(Study::Updates)
    } else {
        Scenario::from_toml(&text).map(Study::Packets)
    };
    study.with_context(|| path.display().to_string())
}

/// The command as it is typed, without what Cargo appends.
fn command(arguments: impl Iterator<Item = OsString>) -> String {
    let words = arguments.map(|word| word.to_string_lossy().into_owned());
    let own: Vec<String> = words.filter(|word| word != "--bench").collect();
    let dashes = if own.is_empty() { "" } else { " -- " };
    format!("sudo cargo bench --bench scale{dashes}{}", own.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from([&["scale"], words].concat())
    }

    #[test]
    fn the_arguments_make_a_scenario() {
        let words = ["--quick", "--services", "1,50", "--backends", "nft,none", "--bench"];
        let Study::Packets(scenario) = study(parse(&words).expect("fine")).expect("fine") else {
            panic!("quick sends packets");
        };
        assert_eq!(scenario.services, [1, 50]);
        assert_eq!(scenario.backends, ["nft", "none"]);
        assert_eq!(scenario.rounds, Scenario::quick().expect("there").rounds);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [["--services", "many"], ["--instrument", "ruler"], ["--protocol", "icmp"]] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
        let zero = parse(&["--rounds", "0"]).expect("a number");
        assert!(study(zero).expect_err("no round").to_string().contains("rounds is 0"));
    }

    #[test]
    fn scenarios_are_found_by_name_and_by_file() {
        let found = |name: &str| study(parse(&["--scenario", name]).expect("fine"));
        assert!(matches!(found("update"), Ok(Study::Updates(_))));
        assert!(matches!(found("default"), Ok(Study::Packets(_))));
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/update.toml");
        assert_eq!(found(file).expect("a file"), found("update").expect("a name"));
        assert!(found("no-such-scenario").is_err());
    }

    #[test]
    fn the_command_can_be_typed_again() {
        let typed = |words: &[&str]| command(words.iter().map(OsString::from));
        assert_eq!(typed(&["--bench"]), "sudo cargo bench --bench scale");
        assert_eq!(
            typed(&["--quick", "--seed", "3", "--bench"]),
            "sudo cargo bench --bench scale -- --quick --seed 3"
        );
    }
}
