//! Whole runs of the bench, each in a process of its own: stopped in the middle and gone on with,
//! and on a machine that lacks tools.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]

use nfc_bench::plan::{self, Cell};
use nfc_bench::record::{Entry, Figure, MEASUREMENTS, Record};
use nfc_bench::redraw;
use nfc_bench::run::{self, Order, Study};
use nfc_bench::scenario::Scenario;
use nfc_kernel::Feature;
use nfc_lab::need;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Small enough to be over in seconds, and with cells enough to be stopped in the middle.
const SCENARIO: &str = r#"
about = "a run to be stopped"
services = [1, 10]
endpoints = 2
backends = ["none", "nft"]
protocol = "udp"
rounds = 3
warm_up = 5
first_packets = 20
position_packets = 5
miss_packets = 5
established_packets = 20
updates = 1
seed = 7
"#;

/// What the process below is told by.
const FOLDER: &str = "NFC_TEST_RUN_FOLDER";
const RESUME: &str = "NFC_TEST_RUN_RESUME";
const BACKENDS: &str = "NFC_TEST_RUN_BACKENDS";

fn scenario() -> Scenario {
    let mut scenario = Scenario::from_toml(SCENARIO).expect("a scenario");
    if let Ok(backends) = std::env::var(BACKENDS) {
        scenario.scope.backends = backends.split(',').map(str::to_owned).collect();
        scenario.scope.rounds = 1;
    }
    scenario
}

/// The process that the tests below start: it measures, and fails when that fails.
#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn a_run() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("the other tests say where"));
    let order = Order {
        command: "a test".to_owned(),
        instrument: "native".to_owned(),
        results: folder.clone(),
        out: Some(folder),
        study: Study::Packets(scenario()),
        resume: std::env::var_os(RESUME).is_some(),
    };
    let done = run::run(&order).expect("it measures");
    assert_eq!(done.voided, 0, "see {}", done.folder.display());
}

/// A folder of one test, which is removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let unique = format!("nfc-bench-runs-{}-{name}", std::process::id());
        Self(std::env::temp_dir().join(unique))
    }

    fn record(&self) -> Record {
        Record::read(&self.0).expect("a record")
    }

    fn report(&self) -> String {
        fs::read_to_string(redraw::redraw(&self.0).expect("a record")).expect("a report")
    }

    /// How many cells are done by now.
    fn done(&self) -> usize {
        let text = fs::read_to_string(self.0.join(MEASUREMENTS)).unwrap_or_default();
        text.matches("\"kind\":\"finished\"").count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command that measures into `folder`, after `wrapper` if there is one.
fn measure(folder: &Path, wrapper: &[&str]) -> Command {
    let program = std::env::current_exe().expect("this program");
    let mut command = match wrapper {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    };
    command.args(["--ignored", "--exact", "a_run"]).env(FOLDER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn succeeds(mut command: Command) {
    assert!(command.status().expect("it starts").success(), "{command:?}");
}

/// Sends the signal of Ctrl-C to the process, and to nobody else.
fn interrupt(process: &Child) {
    let kill = format!("kill -INT {}", process.id());
    succeeds({
        let mut command = Command::new("sh");
        command.args(["-c", &kill]);
        command
    });
}

fn cells(record: &Record) -> Vec<Cell> {
    record.finished().map(nfc_bench::record::Finished::cell).collect()
}

/// Of what there are figures: cells and metrics, not values.
fn subjects(record: &Record) -> BTreeSet<String> {
    let subject = |f: &Figure| format!("{:?} {} {} {:?}", f.round, f.backend, f.services, f.metric);
    record.figures().map(subject).collect()
}

#[test]
fn a_run_that_is_stopped_goes_on_and_ends_as_one_that_was_not() {
    if !need("a run is stopped", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let plan = plan::cells(&scenario(), &scenario().scope.backends);
    let folder = Folder::new("stopped");
    let mut process = measure(&folder.0, &[]).spawn().expect("it starts");
    let begun = Instant::now();
    while folder.done() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(120), "three small cells take this long");
        std::thread::sleep(Duration::from_millis(10));
    }
    interrupt(&process);
    assert!(process.wait().expect("it ends").success(), "a stop is no failure");

    let stopped = folder.record();
    let done = cells(&stopped);
    assert!((3..plan.len()).contains(&done.len()), "{} of {}", done.len(), plan.len());
    assert_eq!(done, plan[..done.len()], "the first cells of the plan");
    let of_cells = stopped.figures().filter_map(Figure::cell);
    assert!(of_cells.collect::<Vec<_>>().iter().all(|cell| done.contains(cell)));
    let words = format!("**Stopped before its end: {} of {} cells", done.len(), plan.len());
    assert!(folder.report().contains(&words));

    let mut again = measure(&folder.0, &[]);
    again.env(RESUME, "yes");
    succeeds(again);
    let resumed = folder.record();
    assert_eq!(cells(&resumed), plan, "every cell once");
    let is_of_a_round = |entry: &&Entry| matches!(entry, Entry::Figure(f) if f.round.is_some());
    let kept: Vec<&Entry> = stopped.entries.iter().filter(is_of_a_round).collect();
    assert!(kept.iter().all(|entry| resumed.entries.contains(entry)), "nothing is measured twice");
    assert!(!folder.report().contains("Stopped before its end"));
    assert_eq!(resumed.machine.resumed.len(), 1);

    let straight = Folder::new("straight");
    succeeds(measure(&straight.0, &[]));
    assert_eq!(cells(&straight.record()), plan);
    assert_eq!(subjects(&resumed), subjects(&straight.record()));
}

/// Hides every copy of these tools from the process that is started, in a mount namespace.
const WITHOUT_TOOLS: &str = "for tool in nft iptables-legacy-restore ipvsadm; do \
     for folder in /usr/sbin /usr/local/sbin /sbin /usr/bin /bin $(echo \"$PATH\" | tr : ' '); do \
     if [ -e \"$folder/$tool\" ]; then mount --bind /dev/null \"$folder/$tool\" || exit 9; fi; \
     done; done; exec \"$@\"";

#[test]
fn who_needs_a_tool_that_is_missing_is_left_out_by_name_and_the_others_are_measured() {
    if !need("tools are missing", &[Feature::Namespaces, Feature::Nftables]) {
        return;
    }
    let folder = Folder::new("tools");
    let wrapper = ["unshare", "--mount", "sh", "-c", WITHOUT_TOOLS, "sh"];
    let mut command = measure(&folder.0, &wrapper);
    command.env(BACKENDS, "none,nft,iptables,kube-proxy-1.36");
    succeeds(command);
    let record = folder.record();
    let absent: Vec<&str> = record.absent().map(|absent| absent.backend.as_str()).collect();
    assert_eq!(absent, ["iptables", "kube-proxy-1.36"]);
    let measured: BTreeSet<String> = cells(&record).into_iter().map(|cell| cell.backend).collect();
    assert_eq!(measured, BTreeSet::from(["none", "nft"].map(str::to_owned)));
    for words in [
        "- **iptables** was not measured: iptables-legacy-restore",
        "- **kube-proxy-1.36** was not measured: nft",
    ] {
        assert!(folder.report().contains(words), "{words}\n{}", folder.report());
    }
}
