//! How commands end: a signal ends each of them at any moment, and nothing is left behind.
//! What they print into a pipe is text alone.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

mod stage;

use nfc_ir::Family;
use nfc_kernel::inhabitants::{Signal, tell};
use nfc_kernel::{Feature, Namespace};
use nfc_lab::need;
use stage::desk::Desk;
use stage::terminal::{self, CTRL_C};
use stage::{NFT, path};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Signals that end a command, with their numbers.
const SIGNALS: [(Signal, i32); 3] =
    [(Signal::Interrupt, 2), (Signal::Hangup, 1), (Signal::Terminate, 15)];

/// How long what is ending may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn nfc(args: &[&str]) -> Command {
    terminal::listen_to_what_was_ignored();
    let mut command = stage::command(args);
    command.stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    nfc(args).output().expect("the command ends")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A lab with a process in the background and one that has left its session, known by how
/// long they sleep.
fn crowded(machine: &Machine, seconds: u32) -> (Child, BufReader<impl Read>) {
    let script = format!("sleep {seconds} & setsid sleep {seconds} & echo ready; sleep {seconds}");
    let mut command = machine.nfc(&["lab", "examples/web.yaml", "--", "sh", "-c", &script]);
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

/// What commands could leave on the machine: links, named namespaces, temporary files. Of
/// these they have a folder of their own, because others on the machine make some as well.
struct Machine {
    folder: PathBuf,
    before: Vec<String>,
}

impl Machine {
    fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("nfc-ends-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let before = Self::belongings(&folder);
        Self { folder, before }
    }

    fn nfc(&self, args: &[&str]) -> Command {
        let mut command = nfc(args);
        command.env("TMPDIR", &self.folder);
        command
    }

    fn belongings(folder: &Path) -> Vec<String> {
        let files = std::fs::read_dir(folder).expect("a folder").flatten();
        let files = files.map(|file| file.path().display().to_string());
        let links = std::fs::read_to_string("/proc/net/dev").expect("links");
        let links = links.lines().filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned()));
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let named = mounts.lines().filter(|l| l.starts_with("nsfs") && !l.contains("nfc-test"));
        files.chain(links).chain(named.map(str::to_owned)).collect()
    }

    fn is_as_before(&self) {
        assert_eq!(Self::belongings(&self.folder), self.before);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn nothing_is_left_of_a_crowded_lab() {
    if !need("nfc lab leaves nothing", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let machine = Machine::new("crowded");
    // The lengths are nobody else's.
    let ends = [(Signal::Terminate, 129), (Signal::Hangup, 129), (Signal::Interrupt, 130)];
    for (seconds, (signal, code)) in (86_391..).zip(ends) {
        let (mut child, mut stdout) = crowded(&machine, seconds);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        wait_until("three processes are there to be ended", || sleepers(seconds) == 3);
        send(&child, signal);
        let status = child.wait().expect("an end");
        assert_eq!(status.code(), Some(code), "{signal:?}");
        assert_eq!(sleepers(seconds), 0, "{signal:?}");
    }
    let background = ["sh", "-c", "sleep 86390 & setsid sleep 86390 & exit 4"];
    let mut lab = machine.nfc(&[&["lab", "examples/web.yaml", "--"], &background[..]].concat());
    let output = lab.output().expect("the command ends");
    assert_eq!((output.status.code(), sleepers(86_390)), (Some(4), 0));
    machine.is_as_before();
}

/// Processes of the group that `child` leads, those left out that are only waited for.
fn group(child: &Child) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let is_one = |path: PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        // State, parent and group come behind the name (`proc_pid_stat(5)`).
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect::<Vec<_>>());
        let leader = child.id().to_string();
        fields.is_some_and(|f| f[0] != "Z" && f.get(2) == Some(&leader.as_str()))
    };
    entries.filter(|entry| is_one(entry.path())).count()
}

/// Starts a command, and ends it after a while.
fn ended(machine: &Machine, args: &[&str], signal: Signal, delay: Duration) -> ExitStatus {
    let mut command = machine.nfc(args);
    command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("a process");
    std::thread::sleep(delay);
    send(&child, signal);
    wait_until(&format!("{args:?} ends"), || child.try_wait().expect("a child").is_some());
    wait_until(&format!("those end whom {args:?} started"), || group(&child) == 0);
    child.wait().expect("an end")
}

/// Early, when worlds are being laid out and tools run, and late, when it is waited.
#[test]
fn a_signal_ends_every_command_at_any_moment() {
    if !need("a signal ends every command", &NFT) {
        return;
    }
    let machine = Machine::new("signals");
    let node = Namespace::new().expect("a namespace");
    let netns = path(&node);
    let packet = "tcp 192.0.2.2 > 10.96.45.123:80";
    let legacy = stage::needs("iptables", Family::Ipv4).iter().all(|f| f.probe().is_ok());
    let backend = if legacy { "iptables" } else { "nft" };
    let commands: [&[&str]; 4] = [
        &["explain", packet, "--trace", "--backend", backend, "examples/web.yaml"],
        // This one has nft listen to the kernel meanwhile.
        &["explain", packet, "--trace", "--backend", "nft", "examples/web.yaml"],
        &["doctor", "--for", "600", "--netns", &netns, "examples/web.yaml"],
        &[
            "lab",
            "--backend",
            backend,
            "--family",
            "ipv4",
            "examples/web.yaml",
            "--",
            "sleep",
            "600",
        ],
    ];
    for args in commands {
        for (signal, number) in SIGNALS {
            for delay_ms in [3, 20, 60, 300] {
                let status = ended(&machine, args, signal, Duration::from_millis(delay_ms));
                let by_signal = status.signal() == Some(number);
                // A lab hands the signal on and says how its command ended; a trace may be done.
                let is_told = match args[0] {
                    "lab" => status.code().is_some_and(|code| code > 128),
                    "explain" => status.code() == Some(0),
                    _ => false,
                };
                assert!(by_signal || is_told, "{args:?}, {signal:?}: {status}");
            }
        }
    }
    let living = nfc_kernel::inhabitants::of([&node]).expect("a list");
    assert!(living.is_empty(), "{living:?} live where the doctor looked");
    machine.is_as_before();
}

/// The process that watches the namespace of this path.
fn watcher(netns: &str) -> Option<u32> {
    let wanted = format!("\0inspect\0--watch\0--netns\0{netns}\0");
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).ends_with(&wanted)
    })
}

#[test]
fn a_signal_ends_those_who_watch() {
    let test = "a signal ends nfc inspect --watch";
    if !need(test, &NFT) || !terminal::need(test) {
        return;
    }
    let node = Namespace::new().expect("a namespace");
    let netns = path(&node);
    assert!(run(&["apply", "--netns", &netns, "examples/web.yaml"]).status.success());
    for (signal, _) in SIGNALS {
        let line = format!("{} inspect --watch --netns {netns}", stage::nfc().display());
        terminal::listen_to_what_was_ignored();
        let [script, options @ ..] = terminal::on_terminal(&line);
        let mut terminal = Command::new(script);
        terminal.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut terminal = terminal.spawn().expect("script");
        let mut seen = [0; 3];
        terminal.stdout.as_mut().expect("a pipe").read_exact(&mut seen).expect("a picture");
        assert_eq!(&seen, b"\x1b[H", "it draws from the corner");
        match signal {
            // What Ctrl-C sends is the terminal's affair.
            Signal::Interrupt => {
                let keys = terminal.stdin.as_mut().expect("a pipe");
                keys.write_all(CTRL_C).expect("a reader");
            }
            signal => tell(watcher(&netns).expect("a watcher"), signal).expect("a process of ours"),
        }
        wait_until(&format!("{signal:?} ends it"), || watcher(&netns).is_none());
        drop(terminal.stdin.take());
        wait_until("its terminal goes", || terminal.try_wait().expect("a child").is_some());
    }
    let living = nfc_kernel::inhabitants::of([&node]).expect("a list");
    assert!(living.is_empty(), "{living:?} live where it was watched");
}

/// Each picture fits a small terminal, and says what it leaves out.
#[test]
fn what_is_watched_fits_the_terminal() {
    let test = "what is watched fits the terminal";
    if !need(test, &NFT) || !terminal::need(test) {
        return;
    }
    let desk = Desk::new("fits");
    assert_eq!(desk.run("nfc apply svc.yaml").code, Some(0));
    for (line, left_out, begins) in [
        ("nfc inspect --watch", "more lines", "\x1b[2J"),
        // It says all in the end, which is no picture.
        ("nfc lab --watch svc.yaml", "more endpoints", "\x1b[?7l"),
    ] {
        let is_drawn = |screen: &str| screen.matches(left_out).count() > 2;
        let ended = desk.interrupt(&format!("stty rows 7 cols 60; {line}"), is_drawn);
        let pictures: Vec<_> = ended.stdout.split(begins).skip(1).take(3).collect();
        assert_eq!(pictures.len(), 3, "{line}: {}", ended.stdout);
        for picture in pictures {
            // The cursor is below the last of them.
            assert_eq!(picture.lines().count(), 7, "{line}: {picture:?}");
            assert!(picture.contains("\nand ") && picture.contains(left_out), "{picture:?}");
        }
    }
}

/// No colour, no bar, nothing drawn over.
#[test]
fn a_pipe_gets_text_alone() {
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["lab"],
        vec!["compile", "--backend", "nft", "examples/web.yaml"],
        vec!["compile", "--backend", "nft", "docs/broken.yaml"],
        vec!["check", "docs/broken.yaml"],
        vec!["diff", "docs/diff-old.yaml", "docs/diff-new.yaml"],
        vec!["explain", "tcp 10.244.1.5 > 10.96.45.123:80", "examples/web.yaml"],
    ];
    let has_kernel = need("a pipe gets text alone, with rules in the kernel", &NFT);
    let namespace = has_kernel.then(|| Namespace::new().expect("a namespace"));
    let node = namespace.as_ref().map(path).unwrap_or_default();
    if has_kernel {
        let ask = "curl -so /dev/null 10.96.45.123; sleep 1.1";
        commands.extend([
            vec!["apply", "--timings", "--netns", &node, "examples/web.yaml"],
            vec!["inspect", "--netns", &node],
            vec!["doctor", "--for", "1", "--netns", &node, "examples/web.yaml"],
            vec!["lab", "--watch", "examples/web.yaml", "--", "sh", "-c", ask],
        ]);
    }
    for args in commands {
        let Output { stdout, stderr, .. } = run(&args);
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        assert!(!said.is_empty(), "{args:?}");
        assert!(!said.contains(['\x1b', '\r', '\x08']), "{args:?}: {said}");
    }
}
