//! The `nfc` command: reads arguments and files, prints, exits.
//!
//! Rules go to standard output, everything meant for a person to standard error, so that
//! output pipes. The exit code tells whose fault a failure was: see [`Exit`].
//!
//! Invariant: the only place that prints or exits; what to print is worked out elsewhere.

/// Words to people, on standard error. These stand in for the standard library's macros of the
/// same names, which panic where the reader of a pipe has seen enough: `2>&1 | head -1`.
macro_rules! eprint {
    ($($words:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!($($words)*));
    }};
}

/// The same, and the end of the line.
macro_rules! eprintln {
    ($($words:tt)*) => {
        eprint!("{}\n", format_args!($($words)*))
    };
}

mod args;
mod check_command;
mod completions_command;
mod diff_command;
mod doctor_command;
mod explain_account;
mod explain_command;
mod explain_trace;
mod inspect_command;
mod lab_command;
mod man_command;
mod progress;
mod screen;

use args::{Apply, BackendArg, Cli, Command, Compile, Delete, Emit, FamilyArg, Input};
use clap::Parser;
use nfc::{compile, load, registry};
use nfc_backend::{AnyBackend, Refusal, Unsupported, counted};
use nfc_ir::{Family, Ir};
use nfc_kernel::netns::{Guard, NamespaceError};
use nfc_kernel::{Kernel, Namespace};
use nfc_manifest::{Diagnostic, Document, Loaded, Settings, Source, SourceError, WINDOW_BYTES};
use progress::Progress;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no failure.
            let exit = if error.use_stderr() { Exit::Input } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    let done = match &cli.command {
        Command::Compile(args) => run_compile(args),
        Command::Apply(args) => run_apply(args),
        Command::Delete(args) => run_delete(args),
        Command::Doctor(args) => doctor_command::run(args),
        Command::Explain(args) => explain_command::run(args),
        Command::Diff(args) => diff_command::run(args),
        Command::Check(args) => check_command::run(args),
        Command::Inspect(args) => inspect_command::run(args),
        Command::Lab(args) => lab_command::run(args),
        Command::Completions(args) => completions_command::run(args),
        Command::Man(args) => man_command::run(args),
    };
    done.err().unwrap_or(Exit::Done).into()
}

/// How a run ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// 0: all was done.
    Done,
    /// 1: the input was refused; nothing was printed on standard output, nothing loaded.
    Input,
    /// 2: the environment lacks something: a privilege, a tool, a kernel feature.
    Environment,
    /// 3: the kernel refused the rules.
    Kernel,
    /// 4: what was compared differs.
    Different,
    /// What the subcommand says it is.
    Code(u8),
}

impl From<&Refusal> for Exit {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Refused { .. } => Self::Kernel,
            Refusal::Missing { .. } | Refusal::Io { .. } => Self::Environment,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Input => 1,
            Exit::Environment => 2,
            Exit::Kernel => 3,
            Exit::Different => 4,
            Exit::Code(code) => code,
        })
    }
}

fn run_compile(args: &Compile) -> Result<(), Exit> {
    let backend = backend(&args.backend)?;
    if args.emit == Emit::Ir && args.replacing.is_some() {
        eprintln!(
            "error: --replacing is for rules, and --emit ir prints none; leave one of them out"
        );
        return Err(Exit::Input);
    }
    let irs = read_services(&args.input, backend.as_ref())?.irs;
    let text = match (args.emit, &args.replacing) {
        (Emit::Ir, _) => irs.values().map(Ir::to_string).collect(),
        (Emit::Program, None) => {
            let compiled = compile::compile(backend.as_ref(), irs.values());
            warn_unsupported(backend.name(), &compiled.unsupported);
            compiled.text
        }
        (Emit::Program, Some(dump)) => compile_onto(dump, backend.as_ref(), &irs)?,
    };
    print(&text)
}

/// The text that replaces what `dump` says is there.
fn compile_onto(
    dump: &Path,
    backend: &dyn AnyBackend,
    irs: &BTreeMap<Family, Ir>,
) -> Result<String, Exit> {
    let refuse = |why: &str| {
        eprintln!("error: {why}");
        Exit::Input
    };
    if backend.name() != "iptables" {
        return Err(refuse("--replacing is for iptables; add --backend iptables"));
    }
    let Some(ir) = irs.values().next().filter(|_| irs.len() == 1) else {
        return Err(refuse("--replacing is for one family; add --family ipv4 or --family ipv6"));
    };
    let dump = nfc_manifest::source::read_file(dump).map_err(|error| {
        eprintln!("error: {error}");
        Exit::Input
    })?;
    // A kernel without any rules has an empty dump.
    let is_dump = dump.text.lines().any(|line| line.starts_with('*'));
    if !is_dump && !dump.text.trim().is_empty() {
        let name = &dump.name;
        return Err(refuse(&format!("{name} is not what iptables-legacy-save prints")));
    }
    let compiled = compile::compile_onto(&dump.text, ir);
    warn_unsupported(backend.name(), &compiled.unsupported);
    Ok(compiled.text)
}

fn run_apply(args: &Apply) -> Result<(), Exit> {
    let backend = if args.full { whole(&args.backend)? } else { backend(&args.backend)? };
    let loaded = read_services(&args.input, backend.as_ref())?;
    let irs = some_services(loaded, "; `nfc delete` takes away what is loaded")?;
    let _inside = enter(args.netns.netns.as_deref())?;
    if args.dry_run {
        return diff_command::dry_run(backend.as_ref(), &irs, args.input.family);
    }
    let mut kernel = Kernel::new();
    // Families without Services are cleared, or those of an earlier run would live on.
    let wanted = args.input.family.unwrap_or(FamilyArg::Both).families();
    for family in wanted {
        match irs.get(&family) {
            Some(ir) => {
                let loaded = load::apply(backend.as_ref(), ir, &mut kernel).map_err(refused)?;
                warn_unsupported(backend.name(), &loaded.unsupported);
                print(&receipt(backend.name(), &loaded))?;
                if args.timings {
                    print(&timings(&loaded))?;
                }
            }
            None => clear(backend.as_ref(), family, &mut kernel)?,
        }
    }
    Ok(())
}

/// Deletes a family that is not wanted. What the environment cannot have, is not there.
fn clear(backend: &dyn AnyBackend, family: Family, kernel: &mut Kernel) -> Result<(), Exit> {
    match load::delete(backend, family, kernel) {
        Err(failure) if matches!(failure.refusal, Refusal::Missing { .. }) => Ok(()),
        done => done.map(drop).map_err(refused),
    }
}

fn run_delete(args: &Delete) -> Result<(), Exit> {
    let backend = whole(&args.backend)?;
    let _inside = enter(args.netns.netns.as_deref())?;
    let mut kernel = Kernel::new();
    for family in args.family.families() {
        let was_there = load::delete(backend.as_ref(), family, &mut kernel).map_err(refused)?;
        let done = if was_there { "deleted" } else { "nothing was there" };
        print(&format!("{} {family}: {done}\n", backend.name()))?;
    }
    Ok(())
}

fn backend(asked: &BackendArg) -> Result<Box<dyn AnyBackend>, Exit> {
    registry::find(name(asked)?).ok_or(Exit::Input)
}

/// The same, but it does not look at what is there beyond whether anything is.
fn whole(asked: &BackendArg) -> Result<Box<dyn AnyBackend>, Exit> {
    registry::find_whole(name(asked)?).ok_or(Exit::Input)
}

fn name(asked: &BackendArg) -> Result<&'static str, Exit> {
    asked.name().ok_or_else(|| {
        eprintln!("error: --layout is for the nft backend");
        Exit::Input
    })
}

/// Reads settings and manifests, and says everything there is to say about them.
fn read_services(input: &Input, backend: &dyn AnyBackend) -> Result<Loaded, Exit> {
    let settings = read_settings(input)?.for_mode(backend.mode());
    let mut loaded = load_manifests(&input.files, &settings)?;
    eprint!("{}", nfc_manifest::render_warnings(&loaded.warnings));
    if loaded.irs.values().all(|ir| ir.services().is_empty()) {
        let family = if input.family.is_some() { " in the family asked for" } else { "" };
        eprintln!("warning: no Service of the input is proxied{family}: there is nothing to say");
    }
    if loaded.irs.is_empty() {
        loaded.irs = [(Family::Ipv4, Ir::empty(Family::Ipv4))].into();
    }
    Ok(loaded)
}

/// The Services of an input that has any. A kubectl that failed leaves nothing in a pipe, which
/// must not clear a node, nor pass for a healthy one. `advice` goes on where the error ends.
fn some_services(loaded: Loaded, advice: &str) -> Result<BTreeMap<Family, Ir>, Exit> {
    let Loaded { irs, counts, .. } = loaded;
    if counts.services + counts.skipped_services == 0 {
        eprintln!("error: the input has no Service{advice}");
        return Err(Exit::Input);
    }
    Ok(irs)
}

fn load_manifests(files: &[PathBuf], settings: &Settings) -> Result<Loaded, Exit> {
    let sources = nfc_manifest::source::list(files).map_err(|errors| unreadable(&errors))?;
    let mut progress = Progress::new(sources.iter().map(Source::size_bytes).sum());
    let mut count = |bytes| progress.add(bytes);
    let loaded = nfc_manifest::load_from(&sources, settings, WINDOW_BYTES, &mut count);
    drop(progress);
    loaded.map_err(|refused| {
        if !refused.unreadable.is_empty() {
            unreadable(&refused.unreadable);
        }
        if !refused.errors.is_empty() {
            flawed(&refused.errors);
        }
        Exit::Input
    })
}

/// The texts themselves, for those who read them more than once.
fn read_documents(files: &[PathBuf]) -> Result<Vec<Document>, Exit> {
    nfc_manifest::source::read(files).map_err(|errors| unreadable(&errors))
}

fn unreadable(errors: &[SourceError]) -> Exit {
    errors.iter().for_each(|error| eprintln!("error: {error}"));
    Exit::Input
}

/// The settings of the file, and what was typed over them. The file may be a pipe, so they are
/// read once.
fn read_settings(input: &Input) -> Result<Settings, Exit> {
    let Some(path) = &input.config else {
        return Ok(Settings::default().overridden(&input.overrides()));
    };
    let document = nfc_manifest::source::read_file(path).map_err(|error| {
        eprintln!("error: {error}");
        Exit::Input
    })?;
    let (settings, warnings) = nfc_manifest::read_settings(&document).map_err(|d| flawed(&d))?;
    eprint!("{}", nfc_manifest::render_warnings(&warnings));
    Ok(settings.overridden(&input.overrides()))
}

fn flawed(diagnostics: &[Diagnostic]) -> Exit {
    let colour = io::stderr().is_terminal() && takes_colours(|name| std::env::var_os(name));
    eprint!("{}", nfc_manifest::render_all(diagnostics, colour));
    Exit::Input
}

/// Whether a terminal with these variables is to be sent colours.
fn takes_colours(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    // As https://no-color.org has it, an empty value asks for nothing.
    let is_unwanted = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    // What calls itself dumb would show the codes of colours as letters.
    let is_dumb = variable("TERM").is_some_and(|name| name == "dumb");
    !is_unwanted && !is_dumb
}

/// The network namespace to work in: that of the process when none is named.
fn enter(netns: Option<&Path>) -> Result<Option<Guard>, Exit> {
    let Some(path) = netns else { return Ok(None) };
    let open = || -> Result<Guard, NamespaceError> {
        let named = path.components().count() == 1;
        let namespace = match path.to_str().filter(|_| named) {
            Some(name) => Namespace::named(name)?,
            None => Namespace::at(path)?,
        };
        namespace.enter()
    };
    open().map(Some).map_err(|error| {
        eprintln!("error: {error}");
        Exit::Environment
    })
}

fn refused(failure: load::Failure) -> Exit {
    eprintln!("error: {failure}");
    Exit::from(&failure.refusal)
}

fn warn_unsupported(backend: &str, unsupported: &[Unsupported]) {
    for gap in unsupported {
        eprintln!("warning: {backend} cannot say {gap}");
    }
}

/// What was loaded, and below it what that changed and what has to wait.
fn receipt(backend: &str, loaded: &load::Loaded) -> String {
    let ports = counted(loaded.services, "service port");
    let head = format!("{backend} {}: {ports}", loaded.family);
    let receipt = &loaded.receipt;
    let steps = counted(receipt.steps.len(), "step");
    let (bytes, elapsed) = (receipt.byte_count(), receipt.elapsed().as_secs_f64() * 1e3);
    let done = match loaded.unchanged {
        true => "unchanged".to_owned(),
        false => format!("{bytes} bytes in {steps}, {elapsed:.1} ms"),
    };
    let lines = loaded.changes.iter().chain(&loaded.unfinished);
    let lines: String = lines.map(|line| format!("  {line}\n")).collect();
    format!("{head}, {done}\n{lines}")
}

/// Where the time went, one line for each part.
fn timings(loaded: &load::Loaded) -> String {
    let load::Effort { lower, read, compare, encode } = loaded.effort;
    let parts = [("lower", lower), ("read", read), ("compare", compare), ("encode", encode)];
    let own = parts.map(|(part, time)| (part.to_owned(), time));
    let steps = loaded.receipt.steps.iter();
    let kernel = steps.map(|s| (format!("{}, {} bytes", s.kind, s.byte_count), s.elapsed));
    let line = |(part, time): (String, Duration)| {
        format!("{:>12.3} ms  {part}\n", time.as_secs_f64() * 1e3)
    };
    own.into_iter().chain(kernel).map(line).collect()
}

/// Prints to standard output. A reader that has seen enough is no failure.
fn print(text: &str) -> Result<(), Exit> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to standard output: {error}");
            Err(Exit::Environment)
        }
        _ => Ok(()),
    }
}

/// Writes a file, and the folders on the way to it.
fn write_file(path: &Path, text: &str) -> Result<(), Exit> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text)).map_err(|error| {
        eprintln!("error: cannot write {}: {error}", path.display());
        Exit::Environment
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_show_them_and_readers_who_want_them() {
        for (variables, expected) in [
            (&[][..], true),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (&[("TERM", "xterm"), ("NO_COLOR", "1")], false),
            (&[("TERM", "dumb")], false),
        ] {
            let value = |wanted: &str| {
                let found = variables.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.into())
            };
            assert_eq!(takes_colours(value), expected, "{variables:?}");
        }
    }
}
