//! The machine that measures: what its figures depend on besides the program.
//!
//! Whatever cannot be read is left out or said to be unknown; a fact is never guessed.
//!
//! Invariant: reads only, and changes nothing of the machine.

use crate::record::Machine;
use nfc_backend::Process;
use nfc_kernel::process;
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The one setting that differs each time one looks.
pub const LOAD_AVERAGE: &str = "load average of the machine at the start";

/// Files of one line that make a setting.
const FILES: [(&str, &str); 10] = [
    (LOAD_AVERAGE, "/proc/loadavg"),
    ("clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("CPU governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("SMT", "/sys/devices/system/cpu/smt/control"),
    ("BPF JIT (net.core.bpf_jit_enable)", "/proc/sys/net/core/bpf_jit_enable"),
    (
        "conntrack limit (net.netfilter.nf_conntrack_max)",
        "/proc/sys/net/netfilter/nf_conntrack_max",
    ),
    (
        "conntrack hash buckets (net.netfilter.nf_conntrack_buckets)",
        "/proc/sys/net/netfilter/nf_conntrack_buckets",
    ),
    ("hardened BPF JIT (net.core.bpf_jit_harden)", "/proc/sys/net/core/bpf_jit_harden"),
    ("turbo is off (intel_pstate)", "/sys/devices/system/cpu/intel_pstate/no_turbo"),
    ("preemption", "/sys/kernel/debug/sched/preempt"),
];

/// Options of the kernel's configuration that change what a packet costs.
const OPTIONS: [&str; 15] = [
    "CONFIG_HZ",
    "CONFIG_PREEMPT_NONE",
    "CONFIG_PREEMPT_VOLUNTARY",
    "CONFIG_PREEMPT",
    "CONFIG_PREEMPT_LAZY",
    "CONFIG_PREEMPT_DYNAMIC",
    "CONFIG_MITIGATION_RETPOLINE",
    "CONFIG_RETPOLINE",
    "CONFIG_BPF_JIT_ALWAYS_ON",
    "CONFIG_NO_HZ_FULL",
    "CONFIG_NF_CONNTRACK",
    "CONFIG_NF_TABLES",
    "CONFIG_IP_NF_IPTABLES",
    "CONFIG_IP_NF_IPTABLES_LEGACY",
    "CONFIG_IP_VS",
];

/// Tools whose version matters, and how they are asked for it.
const TOOLS: [(&str, &str); 6] = [
    ("iptables-legacy-restore", "--version"),
    ("nft", "--version"),
    ("ipvsadm", "--version"),
    ("ldd", "--version"),
    ("rustc", "--version"),
    ("qemu-system-x86_64", "--version"),
];

/// Where mitigations of CPU flaws are listed, one file each.
const VULNERABILITIES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// How long a tool may take to say its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be known about this machine; `command` is the command line and `seed` the
/// run's.
#[must_use]
pub fn read(command: String, seed: u64) -> Machine {
    Machine {
        date: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        host: line("/proc/sys/kernel/hostname").unwrap_or_else(unknown),
        command,
        seed,
        commit: commit().unwrap_or_else(unknown),
        program: program().unwrap_or_else(unknown),
        resumed: Vec::new(),
        cpu: cpu().unwrap_or_else(unknown),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        kernel: kernel(),
        settings: settings(),
        tools: tools(),
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn kernel() -> String {
    let part = |name: &str| line(&format!("/proc/sys/kernel/{name}"));
    let parts = ["ostype", "osrelease", "version"].map(part);
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = text.lines().find(|l| l.starts_with("model name"))?;
    let model = model.split_once(':')?.1.trim();
    let flags = text.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    let guest = flags.split_whitespace().any(|flag| flag == "hypervisor");
    Some(format!("{model}{}", if guest { " (virtual machine)" } else { "" }))
}

fn settings() -> BTreeMap<String, String> {
    let files = FILES.iter().filter_map(|(name, path)| Some(((*name).to_owned(), line(path)?)));
    let mitigations = mitigations().map(|text| ("CPU mitigations".to_owned(), text));
    files.chain(mitigations).chain(options()).collect()
}

/// The mitigations in force; CPU flaws that this CPU does not have are left out.
fn mitigations() -> Option<String> {
    let mut all: Vec<String> = fs::read_dir(VULNERABILITIES)
        .ok()?
        .flatten()
        .filter_map(|file| {
            let state = line(file.path().to_str()?)?;
            Some(format!("{}: {state}", file.file_name().to_str()?))
        })
        .filter(|text| !text.ends_with("Not affected"))
        .collect();
    all.sort_unstable();
    let off = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let switch = off.split_whitespace().find(|word| word.starts_with("mitigations="));
    all.extend(switch.map(str::to_owned));
    (!all.is_empty()).then(|| all.join("; "))
}

fn options() -> BTreeMap<String, String> {
    let Some(config) = config() else {
        return BTreeMap::new();
    };
    let value = |name: &str| {
        let set = format!("{name}=");
        let unset = format!("# {name} is not set");
        config.lines().find_map(|line| match line.strip_prefix(&set) {
            Some(value) => Some(value.to_owned()),
            None => (line == unset).then(|| "not set".to_owned()),
        })
    };
    let option = |name: &&str| Some(((*name).to_owned(), value(name)?));
    OPTIONS.iter().filter_map(option).collect()
}

/// The kernel's configuration, where distributions or the kernel itself keep it.
fn config() -> Option<String> {
    let release = line("/proc/sys/kernel/osrelease")?;
    let kept = fs::read_to_string(format!("/boot/config-{release}")).ok();
    kept.or_else(|| said("zcat", &["/proc/config.gz"]))
}

fn tools() -> BTreeMap<String, String> {
    TOOLS.iter().filter_map(|(tool, ask)| version(tool, ask)).collect()
}

/// `there`, what a program in the guest found out about itself, with what only the machine
/// outside can know, which built it and emulates the guest: `host`.
#[must_use]
pub fn complete(there: Machine, host: &Machine) -> Machine {
    let Machine { date, command, commit, tools, .. } = host.clone();
    let tools = tools.into_iter().chain(there.tools).collect();
    Machine { date, command, commit, tools, ..there }
}

/// The beginning of the SHA-256 of this program: two runs of one commit may still be of two
/// compilers, or of files that were not committed.
fn program() -> Option<String> {
    let bytes = fs::read("/proc/self/exe").ok()?;
    let hash = sha2::Sha256::digest(&bytes);
    Some(data_encoding::HEXLOWER.encode(&hash[..8]))
}

fn version(tool: &'static str, ask: &str) -> Option<(String, String)> {
    let text = said(tool, &[ask])?;
    Some((tool.to_owned(), text.lines().next()?.trim().to_owned()))
}

/// The commit that the program was built from, while its sources are where they were.
fn commit() -> Option<String> {
    let sources = env!("CARGO_MANIFEST_DIR");
    // git refuses folders of other users, which is what root sees under sudo.
    let trust = format!("safe.directory={}", sources.trim_end_matches("/bench"));
    let git = |args: &[&str]| said("git", &[&["-c", &trust, "-C", sources], args].concat());
    let commit = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let changes = git(&["status", "--porcelain"])?;
    let note = if changes.trim().is_empty() { "" } else { ", with changes not committed" };
    Some(format!("{commit}{note}"))
}

/// What `program` says on its standard output, when it is there and succeeds.
fn said(program: &'static str, args: &[&str]) -> Option<String> {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    let process = Process { program, args, stdin: String::new() };
    let finished = process::run(&process, PATIENCE).ok()?;
    let text = String::from_utf8(finished.stdout).ok()?;
    (finished.code == Some(0)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_linux_tells_its_kernel_and_cores() {
        let machine = read("a command".to_owned(), 4);
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        assert!(machine.cores >= 1);
        assert_eq!((machine.command.as_str(), machine.seed), ("a command", 4));
        assert!(machine.date.ends_with('Z') && machine.date.starts_with("20"), "{}", machine.date);
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        assert_eq!(line("/proc/no/such/file"), None);
        assert_eq!(said("no-such-program-at-all", &[]), None);
        assert_eq!(said("false", &[]), None);
    }
}
