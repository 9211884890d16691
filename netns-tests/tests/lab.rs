//! `nfc lab` as a user meets it: somebody answers, the exit code comes through, and nothing
//! is left behind.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::Feature;
use nfc_kernel::inhabitants::{Signal, tell};
use nfc_lab::need;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CIDRS: &str = "10.244.0.0/16,fd00:244::/32";

/// Addresses that the node has anyway.
const NODE: &str = "192.0.2.1,fd00:192:0:2::1";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn lab(args: &[&str]) -> Command {
    let mut command = Command::new(stage::nfc());
    command.arg("lab").args(args).current_dir(root()).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    lab(args).output().expect("the command ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// What somebody in the world says after `--`, with a Service of three endpoints.
fn said(options: &[&str], words: &[&str]) -> String {
    let input = ["--cluster-cidr", CIDRS, "--node-ip", NODE, "examples/web.yaml", "--"];
    let output = run(&[options, &input, words].concat());
    assert_eq!(output.status.code(), Some(0), "{options:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_backend_leads_every_client_to_an_endpoint() {
    for backend in ["nft", "iptables", "ipvs"] {
        let name = format!("nfc lab answers: {backend}");
        let features: Vec<_> =
            Family::ALL.into_iter().flat_map(|family| stage::needs(backend, family)).collect();
        if !need(&name, &features) {
            continue;
        }
        let ask = |place: &str, url: &str| {
            said(&["--backend", backend, "--in", place], &["curl", "-s", "-m", "10", url])
        };
        // A stranger comes in masqueraded, a pod under its own name.
        for (place, asker) in [("client", "192.0.2.1"), ("10.244.1.5", "10.244.1.5")] {
            let answer = ask(place, "10.96.45.123");
            assert!(answer.contains(":8080 answers for default/web:http, asked by "), "{answer}");
            // An endpoint that reaches itself is masqueraded like a stranger.
            let is_hairpin = answer.starts_with("10.244.1.5") && place != "client";
            assert!(is_hairpin || answer.trim_end().ends_with(asker), "{backend}: {answer}");
        }
        let answer = ask("client", "http://[fd00:96::123]");
        assert!(answer.starts_with("[fd00:244:"), "{backend}: {answer}");
        let answer = ask("client", "192.0.2.1:30080");
        assert!(answer.contains("default/web:http"), "{backend}: {answer}");
    }
}

#[test]
fn a_command_runs_where_it_is_told_to_and_its_exit_code_comes_through() {
    let features = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];
    if !need("a command runs where it is told to", &features) {
        return;
    }
    let rules = said(&["--in", "node"], &["nft", "list", "tables"]);
    assert_eq!(rules, "table ip nfc\ntable ip6 nfc\n");
    for (place, own) in [("client", "192.0.2.2"), ("node", "192.0.2.1"), ("backend", "10.244.1.5")]
    {
        let addresses = said(&["--in", place], &["ip", "-4", "address"]);
        assert!(addresses.contains(own), "{place}: {addresses}");
    }
    let far = ["sh", "-c", "nsenter --net=$NFC_NODE ip -4 address"];
    assert!(said(&[], &far).contains("192.0.2.1"));
    let code = |words: &[&str]| run(&[&["examples/aks.yaml", "--"], words].concat()).status.code();
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["no-such-command"]), Some(127));
    assert_eq!(code(&["/"]), Some(126));
}

/// A user namespace with a network namespace of its own is privilege enough.
#[test]
fn a_lab_needs_no_root_in_a_user_namespace() {
    if !need("nfc lab in a user namespace", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let lab = [&stage::nfc().display().to_string(), "lab", "examples/aks.yaml", "--"];
    let curl = ["curl", "-s", "-m", "10", "10.0.136.241:443"];
    let output = Command::new("unshare")
        .arg("-Urn")
        .args(lab)
        .args(curl)
        .current_dir(root())
        .output()
        .expect("the command ends");
    let answer = text(&output.stdout);
    assert!(answer.starts_with("10.244.2.4:4443 answers"), "{answer}{}", text(&output.stderr));
}

/// In a user namespace alone a thread could leave the machine's network and never come back.
#[test]
fn a_lab_says_what_is_missing_in_a_user_namespace_without_a_network() {
    if !need("nfc lab says what is missing", &[Feature::Namespaces]) {
        return;
    }
    let mut lab = Command::new("unshare");
    lab.arg("-Ur").arg(stage::nfc()).args(["lab", "examples/aks.yaml", "--", "true"]);
    let output = lab.current_dir(root()).output().expect("the command ends");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot come back"), "{}", text(&output.stderr));
}

#[test]
fn without_a_command_a_shell_reads_what_it_is_given() {
    if !need("nfc lab gives a shell", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let mut shell = lab(&["examples/aks.yaml"]);
    let shell = shell.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut shell = shell.spawn().expect("a process");
    let mut stdin = shell.stdin.take().expect("a pipe");
    stdin.write_all(b"ip -4 address show eth0; exit 3\n").expect("a reader");
    let output = shell.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("192.0.2.2"));
}

#[test]
fn counters_say_who_answered() {
    if !need("nfc lab counts answers", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let five = "for i in 1 2 3 4 5; do curl -so /dev/null 10.96.45.123; done";
    let output = run(&["--watch", "examples/web.yaml", "--", "sh", "-c", five]);
    let table = text(&output.stderr);
    assert!(!table.contains('\x1b'), "a pipe takes no escapes: {table}");
    let count = |line: &str| -> Option<u64> {
        line.contains(":8080 tcp").then(|| line.split_whitespace().nth(2)?.parse().ok()).flatten()
    };
    assert_eq!(table.lines().filter_map(count).sum::<u64>(), 5, "{table}");
}

#[test]
fn what_cannot_be_is_said_with_the_right_exit_code() {
    let code = |args: &[&str]| run(args).status.code();
    assert_eq!(code(&["--in", "nowhere", "examples/aks.yaml"]), Some(1));
    assert_eq!(code(&["no-such-file.yaml"]), Some(1));
    if !need("nfc lab refuses", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let output = run(&["--in", "10.1.2.3", "examples/aks.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("10.244.1.221"), "the pods there are");
    if Feature::Ipvs.probe().is_err() {
        let output = run(&["--backend", "ipvs", "examples/aks.yaml", "--", "true"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("modprobe"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_page_tells_the_truth() {
    if need("docs/lab.md", &[Feature::Namespaces, Feature::Nftables, Feature::NftTool]) {
        stage::run_page("docs/lab.md");
    }
}

/// A lab with a process in the background and one that has left its session, known by how
/// long they sleep.
fn crowded(seconds: u32) -> (Child, BufReader<impl Read>) {
    let script = format!("sleep {seconds} & setsid sleep {seconds} & echo ready; sleep {seconds}");
    let mut command = lab(&["examples/web.yaml", "--", "sh", "-c", &script]);
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn().expect("a process");
    let stdout = child.stdout.take().expect("a pipe");
    (child, BufReader::new(stdout))
}

/// Ctrl-C is for everybody in the foreground of the terminal; other signals are for one.
fn send(child: &Child, signal: Signal) {
    if signal != Signal::Interrupt {
        return tell(child.id(), signal).expect("a process of ours");
    }
    // The shell's own: some programs of this name take a group without `--` for everybody.
    let line = format!("kill -s INT -- -{}", child.id());
    let done = Command::new("sh").args(["-c", &line]).status();
    assert!(done.is_ok_and(|status| status.success()), "{line}");
}

/// Processes whose command line is `sleep seconds`.
fn sleepers(seconds: u32) -> usize {
    let wanted = format!("sleep\0{seconds}\0");
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let is_one = |path: PathBuf| {
        std::fs::read(path.join("cmdline")).is_ok_and(|line| line == wanted.as_bytes())
    };
    entries.filter(|entry| is_one(entry.path())).count()
}

/// What a lab could leave on the machine: links, named namespaces, temporary files, mounts.
fn belongings() -> Vec<Vec<String>> {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name.contains("nfc") || folder != "/tmp");
        names.retain(|name| !name.starts_with("nfc-test") && !name.starts_with("nfc-command"));
        names.sort();
        names
    };
    let links = std::fs::read_to_string("/proc/net/dev").expect("links");
    let links = links.lines().filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()));
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
    let nsfs = mounts.lines().filter(|line| line.starts_with("nsfs") && !line.contains("nfc-test"));
    vec![links.collect(), nsfs.map(str::to_owned).collect(), names("/tmp")]
}

#[test]
fn nothing_is_left_behind_however_it_ends() {
    if !need("nfc lab leaves nothing", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let before = belongings();
    // The lengths are nobody else's.
    let ends = [(Signal::Terminate, 129), (Signal::Hangup, 129), (Signal::Interrupt, 130)];
    for (seconds, (signal, code)) in (86_391..).zip(ends) {
        let (mut child, mut stdout) = crowded(seconds);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let deadline = Instant::now() + Duration::from_secs(10);
        while sleepers(seconds) < 3 {
            assert!(Instant::now() < deadline, "three processes are to be ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        send(&child, signal);
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), Some(code), "{signal:?}");
        assert_eq!(sleepers(seconds), 0, "{signal:?}");
    }
    let background = ["sh", "-c", "sleep 86390 & setsid sleep 86390 & exit 4"];
    let output = run(&[&["examples/web.yaml", "--"], &background[..]].concat());
    assert_eq!((output.status.code(), sleepers(86_390)), (Some(4), 0));
    assert_eq!(belongings(), before);
}
