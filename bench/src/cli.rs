//! The command line of the bench.
//!
//! Invariant: turns words into a scenario and a folder, and the end of a run into an exit
//! code; measures nothing.

use crate::record::{MACHINE, SCENARIO};
use crate::run::{self, Done, Order, Study};
use crate::scenario::{Overrides, Scenario, Transport};
use crate::stop::STOPPED;
use crate::updates::UpdateScenario;
use crate::updates::once::{self, Origin};
use crate::{guest, machine, redraw};
use anyhow::{Context as _, bail};
use clap::Parser;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const NATIVE: &str = "native";
const GUEST: &str = "guest";
const BOTH: &str = "both";

/// Measures what Service rules cost on this machine's kernel, and draws it: the first packet
/// of a connection, later packets, loading all rules, and adding one endpoint.
///
/// Everything happens in network namespaces of its own, which vanish with the process; the
/// machine's own network is not touched.
#[derive(Clone, Debug, Parser)]
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
    /// `default`, `quick`, `guest`, `gate` (of `scripts/bench-check`), `update` (every kind of
    /// update, memory, packets meanwhile), `speed` (loads and updates beside the peers'), or a
    /// file with a scenario of your own, as in `bench/scenarios`.
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "quick")]
    scenario: Option<PathBuf>,
    /// Folder for the results, from the root of the workspace [default: results/DATE-HOST].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Goes on with a run that was stopped: the folder of its record. Only the cells that are
    /// missing are measured, by the same plan, on the same machine and with the same program.
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    resume: Option<PathBuf>,
    /// What measures: `native`, this machine's kernel and clock; `guest`, an emulated machine
    /// that counts instructions (scripts/guest-setup); or `both`, one after the other.
    #[arg(long, value_name = "NAME", default_value = NATIVE, value_parser = [NATIVE, GUEST, BOTH])]
    instrument: String,
    /// Only loads the first size with this backend here, and prints what that took.
    #[arg(long, value_name = "NAME", hide = true)]
    load_once: Option<String>,
    /// Where the Services come from that it loads.
    #[arg(long, value_enum, default_value = "memory", hide = true)]
    origin: Origin,
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
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "scale: {error:#}");
            ExitCode::from(code(&error))
        }
    }
}

/// A run came to its end without all of its cells.
#[derive(Debug, thiserror::Error)]
#[error("{0} cells are void, for the reasons at the end of the report")]
struct Voided(usize);

/// 2 when the environment lacks something, 1 for everything else.
fn code(error: &anyhow::Error) -> u8 {
    let lacks = error.chain().any(|cause| cause.is::<nfc_kernel::Missing>());
    if lacks { 2 } else { 1 }
}

fn carry_out(arguments: Arguments, results: &Path) -> anyhow::Result<ExitCode> {
    if let Some(backend) = &arguments.load_once {
        let services = arguments.services.as_ref().and_then(|all| all.first().copied());
        once::load_once(&once::Order {
            backend: backend.clone(),
            services: services.unwrap_or(1),
            endpoints: arguments.endpoints.unwrap_or(1),
            protocol: arguments.protocol.unwrap_or(Transport::Udp),
            origin: arguments.origin,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.instrument == NATIVE || guest::is_here() {
        return measure_here(arguments, results);
    }
    if arguments.resume.is_some() {
        bail!("only a run on this machine can be gone on with: --instrument {NATIVE}");
    }
    let mut code = ExitCode::SUCCESS;
    let out = arguments.out.clone().map(|out| results.join("..").join(out));
    let host = machine::read(command(std::env::args_os().skip(1)), 0);
    let mut folder = out.unwrap_or_else(|| results.join(run::name(&host.date, GUEST)));
    if arguments.instrument == BOTH {
        let out = arguments.out.as_ref().map(|out| out.join(NATIVE));
        let here = Arguments { instrument: NATIVE.to_owned(), out, ..arguments.clone() };
        code = match measure_here(here, results) {
            // What did not work here may work there, and its record is asked for as well.
            Err(error) if error.is::<Voided>() => {
                let _ = writeln!(io::stderr(), "scale: {error:#}");
                ExitCode::FAILURE
            }
            done => done?,
        };
        if code == ExitCode::from(STOPPED) {
            return Ok(code);
        }
        if arguments.out.is_some() {
            folder.push(GUEST);
        }
    }
    let there = Arguments { instrument: GUEST.to_owned(), ..arguments };
    let ran = guest::run(&results.join(".."), &study(there)?, &host, &folder);
    // A run with void cells has failed, and is recorded.
    if folder.join(MACHINE).exists() {
        draw(&folder)?;
    }
    ran.map(|()| code)
}

fn measure_here(arguments: Arguments, results: &Path) -> anyhow::Result<ExitCode> {
    let out = arguments.out.as_ref().or(arguments.resume.as_ref());
    let out = out.map(|out| results.join("..").join(out));
    let order = Order {
        command: command(std::env::args_os().skip(1)),
        instrument: arguments.instrument.clone(),
        resume: arguments.resume.is_some(),
        study: match &out {
            Some(folder) if arguments.resume.is_some() => study_of(folder, arguments)?,
            _ => study(arguments)?,
        },
        out,
        results: results.to_owned(),
    };
    let Done { folder, voided, is_stopped } = run::run(&order)?;
    // Who asked for the run in the guest draws its record, in a thousandth of the time.
    if !guest::is_here() {
        draw(&folder)?;
    }
    if is_stopped {
        let folder = folder.canonicalize().unwrap_or(folder);
        let folder = folder.display();
        let _ = writeln!(
            io::stderr(),
            "scale: stopped; what was measured is recorded. To go on: \
             sudo cargo bench --bench scale -- --resume {folder}"
        );
        return Ok(ExitCode::from(STOPPED));
    }
    match voided {
        0 => Ok(ExitCode::SUCCESS),
        n => Err(Voided(n).into()),
    }
}

/// Draws the report of the record in `folder` and says where it is.
fn draw(folder: &Path) -> anyhow::Result<()> {
    let report = redraw::redraw(folder)?;
    let report = report.canonicalize().unwrap_or(report);
    writeln!(io::stdout(), "{}", report.display()).context("cannot say where the report is")
}

/// The study that the record in `folder` is of; what the command line asks for besides must
/// not be another one.
fn study_of(folder: &Path, arguments: Arguments) -> anyhow::Result<Study> {
    let recorded = from_file(&folder.join(SCENARIO)).context("no run to go on with")?;
    let asked = study(arguments)?;
    let asks_nothing = asked == Study::Packets(Scenario::default_one()?);
    if !asks_nothing && asked != recorded {
        bail!("cannot go on with {}: it is of another scenario or seed", folder.display());
    }
    Ok(recorded)
}

fn study(arguments: Arguments) -> anyhow::Result<Study> {
    let Arguments { services, endpoints, backends, protocol, rounds, seed, .. } = arguments;
    let overrides = Overrides { services, endpoints, backends, protocol, rounds, seed };
    let name = arguments.scenario.as_deref().and_then(Path::to_str);
    let base = match (name, &arguments.scenario) {
        (None, _) if !arguments.quick && arguments.instrument == GUEST => {
            Study::Packets(Scenario::guest()?)
        }
        (None | Some("default"), _) if !arguments.quick => Study::Packets(Scenario::default_one()?),
        (None | Some("quick"), _) => Study::Packets(Scenario::quick()?),
        (Some(GUEST), _) => Study::Packets(Scenario::guest()?),
        (Some("gate"), _) => Study::Packets(Scenario::gate()?),
        (Some("update"), _) => Study::Updates(UpdateScenario::update()?),
        (Some("speed"), _) => Study::Updates(UpdateScenario::speed()?),
        (_, path) => from_file(path.as_deref().unwrap_or(Path::new("")))?,
    };
    Ok(match base {
        Study::Packets(scenario) => Study::Packets(scenario.with(overrides)?),
        Study::Updates(scenario) => Study::Updates(scenario.with(overrides)?),
    })
}

/// A file of a scenario. Cargo starts this program in the folder of its package, and people
/// start Cargo in the root of the workspace: a relative path may be meant from either.
fn from_file(path: &Path) -> anyhow::Result<Study> {
    let text = std::fs::read_to_string(path)
        .or_else(|_| std::fs::read_to_string(Path::new("..").join(path)));
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
        assert_eq!(scenario.scope.services, [1, 50]);
        assert_eq!(scenario.scope.backends, ["nft", "none"]);
        assert_eq!(scenario.scope.rounds, Scenario::quick().expect("there").scope.rounds);
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
        assert_ne!(found("speed").expect("a name"), found("update").expect("a name"));
        assert!(matches!(found("default"), Ok(Study::Packets(_))));
        let guest = study(parse(&["--instrument", GUEST]).expect("fine"));
        assert_eq!(guest.expect("it comes along"), found(GUEST).expect("a name"));
        for file in ["scenarios/update.toml", "bench/scenarios/update.toml"] {
            assert_eq!(found(file).expect("a file"), found("update").expect("a name"));
        }
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
