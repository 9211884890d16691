//! Loads by a process that does nothing else: what memory one takes, of the kernel, of the
//! process and of the tool that it starts; and what it takes from manifests on.
//!
//! The kernel's memory is that of the whole machine, before and after: whatever else goes on
//! meanwhile is in the difference, and what the kernel had in reserve from earlier cells is
//! not. `none` in the same run shows how much that is.
//!
//! Invariant: reads `/proc`; loads nothing but in [`load_once`], which is a process's only
//! work.

use crate::contender::Contender;
use crate::metric::{Metric, Operation};
use crate::scenario::Transport;
use crate::update::Loaded;
use anyhow::{Context as _, bail};
use nfc_ir::{Family, Ir, Node, synth};
use nfc_kernel::{Kernel, Namespace, monotonic_ns};
use nfc_manifest::synth::{self as manifests, Form};
use nfc_manifest::{Settings, Source, WINDOW_BYTES};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The lines of `/proc/meminfo` that hold what rules are made of: small objects and large
/// ones, tables that had no contiguous room, and counters for each CPU.
const KERNEL_LINES: [&str; 3] = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];

/// How often the tool is asked for its memory. What it takes later than its last answer is
/// missed.
const POLL: Duration = Duration::from_millis(2);

/// What a process is to load, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Name of the contender.
    pub backend: String,
    /// How many Services.
    pub services: u32,
    /// How many endpoints each of them has.
    pub endpoints: u32,
    /// Their protocol; manifests have TCP.
    pub protocol: Transport,
    /// Where they come from.
    pub origin: Origin,
}

/// Where the Services come from that a process loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Origin {
    /// It makes them.
    Memory,
    /// Its standard input, a file that kubectl could have written as JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The kernel's memory for objects at this moment, in bytes; `None` when it does not tell.
#[must_use]
pub fn kernel_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    KERNEL_LINES.iter().map(|name| kilobytes(&text, name)).sum::<Option<u64>>().map(|k| k * 1024)
}

/// The number behind `name` in a text such as `/proc/meminfo`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn peak(process: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    kilobytes(&text, "VmHWM:").map(|k| k * 1024)
}

/// Loads what `order` says where the calling thread is, and prints what that took, a metric
/// and its value a line.
///
/// # Errors
///
/// When there is no such contender, the manifests are refused, or the kernel refuses.
pub fn load_once(order: &Order) -> anyhow::Result<()> {
    let contender = Contender::find(&order.backend).context("no such contender")?;
    let begun = monotonic_ns();
    let ir = order.services()?;
    let parsed = monotonic_ns() - begun;
    let (tool, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let parts = std::thread::scope(|scope| {
        scope.spawn(|| watch_children(&tool, &done));
        let loaded = Loaded::cold(&contender, monotonic_ns, ir, &mut Kernel::new());
        done.store(true, Ordering::Relaxed);
        loaded.map(|(_, parts)| parts)
    })?;
    let own = peak("self").context("/proc/self/status has no VmHWM")?;
    let tool = Some(tool.into_inner()).filter(|bytes| *bytes > 0);
    let tool = tool.map(|bytes| (Metric::ToolPeakBytes, bytes));
    let from = |operation, bytes| {
        let mut values = parts.after_parsing(parsed).by_metric(operation);
        values.push((bytes, own));
        values
    };
    let values = match order.origin {
        Origin::Memory => [(Metric::LoadPeakBytes, own)].into_iter().chain(tool).collect(),
        Origin::Json => from(Operation::FromJson, Metric::JsonPeakBytes),
        Origin::Yaml => from(Operation::FromYaml, Metric::YamlPeakBytes),
    };
    for (metric, value) in values {
        writeln!(io::stdout(), "{metric} {value}")?;
    }
    Ok(())
}

/// Keeps in `most` the most memory that a child of this process has had.
fn watch_children(most: &AtomicU64, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        for child in children() {
            most.fetch_max(peak(&child).unwrap_or(0), Ordering::Relaxed);
        }
        std::thread::sleep(POLL);
    }
}

/// The children of all threads of this process (`proc(5)`, `CONFIG_PROC_CHILDREN`).
fn children() -> Vec<String> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists: Vec<String> = threads.flatten().filter_map(of).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(str::to_owned).collect()
}

impl Origin {
    /// How manifests are written; `None` when there are none.
    fn form(self) -> Option<Form> {
        match self {
            Self::Memory => None,
            Self::Json => Some(Form::Json),
            Self::Yaml => Some(Form::Yaml),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }
}

impl Order {
    /// The Services, made or read.
    fn services(&self) -> anyhow::Result<Ir> {
        let (services, endpoints) = (self.services, self.endpoints);
        if self.origin == Origin::Memory {
            let node = Node::default();
            let protocol = self.protocol.into();
            let ir = synth::cluster_ips(Family::Ipv4, protocol, services, endpoints, node);
            return ir.map_err(|flaws| anyhow::anyhow!("the Services are flawed: {flaws:?}"));
        }
        let source = Source::at(Path::new(STDIN));
        let settings = Settings { hostname: NODE.to_owned(), ..Settings::default() };
        let loaded = nfc_manifest::load_from(&[source], &settings, WINDOW_BYTES, &mut |_| {});
        let loaded = loaded.map_err(|refused| anyhow::anyhow!("refused: {:?}", refused.errors))?;
        let ir = loaded.irs.into_values().next().context("the manifests have no Service")?;
        if ir.services().len() != usize::try_from(services)? {
            bail!("{} Services were read, and {services} written", ir.services().len());
        }
        Ok(ir)
    }

    /// Has a process of its own load it in `namespace`, and tells what that took.
    ///
    /// # Errors
    ///
    /// When the manifests cannot be written, or the process cannot be started or fails.
    pub fn carry_out(&self, namespace: &Namespace) -> anyhow::Result<Vec<(Metric, u64)>> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let protocol = match self.protocol {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let numbers = [self.services.to_string(), self.endpoints.to_string()];
        let input = match self.origin.form() {
            Some(form) => self.manifests(form).context("cannot write the manifests")?.into(),
            None => Stdio::null(),
        };
        let run = || {
            Command::new(program)
                .args(["--load-once", &self.backend, "--origin", self.origin.name()])
                .args(["--services", &numbers[0], "--endpoints", &numbers[1]])
                .args(["--protocol", protocol])
                .stdin(input)
                .stderr(Stdio::inherit())
                .output()
        };
        let output = namespace.run(run)?.context("cannot start a process to load once")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let values: Option<Vec<_>> = text.lines().map(value).collect();
        let values = values.filter(|values| !values.is_empty() && output.status.success());
        values.with_context(|| {
            format!("the process that loads once ended with {} and said {text:?}", output.status)
        })
    }

    /// A file with the manifests, which has no name any more and so is gone with its last
    /// reader.
    fn manifests(&self, form: Form) -> io::Result<File> {
        let path = std::env::temp_dir().join(format!("nfc-manifests-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        let mut to = BufWriter::new(file);
        manifests::write(&mut to, form, self.services, self.endpoints)?;
        let mut file = to.into_inner()?;
        file.rewind()?;
        Ok(file)
    }
}

/// Standard input under a name, by which a file can be read a second time.
const STDIN: &str = "/dev/stdin";

/// The node that is asked for, one of those that the made-up pods run on.
const NODE: &str = "node-0001";

/// A line that [`load_once`] prints.
fn value(line: &str) -> Option<(Metric, u64)> {
    let (metric, value) = line.split_once(' ')?;
    Some((Metric::try_from(metric.to_owned()).ok()?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_meminfo_is_a_number() {
        let text = "MemTotal:  100 kB\nSUnreclaim:   65604 kB\nPercpu: 2672 kB\n";
        assert_eq!(kilobytes(text, "SUnreclaim:"), Some(65_604));
        assert_eq!(kilobytes(text, "VmallocUsed:"), None);
    }

    #[test]
    fn this_process_has_had_some_memory_and_the_kernel_too() {
        assert!(peak("self").is_some_and(|bytes| bytes > 100_000));
        assert!(kernel_bytes().is_some_and(|bytes| bytes > 1_000_000));
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let parse = Metric::Update(Operation::FromJson, crate::metric::Part::Parse);
        assert_eq!(value(&format!("{parse} 17")), Some((parse, 17)));
        assert_eq!(value("from_json_parse_ns"), None);
    }

    #[test]
    fn manifests_are_the_services_that_were_asked_for() {
        let order = Order {
            backend: "nft".to_owned(),
            services: 30,
            endpoints: 4,
            protocol: Transport::Tcp,
            origin: Origin::Json,
        };
        for form in [Form::Json, Form::Yaml] {
            let mut file = order.manifests(form).expect("there is room");
            let mut text = String::new();
            io::Read::read_to_string(&mut file, &mut text).expect("it was just written");
            let document = nfc_manifest::Document { name: "dump".to_owned(), text };
            let loaded = nfc_manifest::load(&[document], &Settings::default()).expect("valid");
            let read = &loaded.irs[&Family::Ipv4];
            assert_eq!(read.services().len(), 30);
            for (index, service) in (0..).zip(read.services()) {
                assert_eq!(service.cluster_ip, synth::cluster_ip(Family::Ipv4, index));
                assert_eq!(service.endpoints.len(), 4);
            }
        }
    }

    #[test]
    fn a_child_is_seen_and_its_memory_too() {
        let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| watch_children(&most, &done));
            let slept = Command::new("sleep").arg("0.3").status();
            done.store(true, Ordering::Relaxed);
            slept.expect("sleep");
        });
        assert!(most.into_inner() > 0);
    }
}
