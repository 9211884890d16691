//! A world with rules in it, and packets sent through: what the tests against the kernel
//! share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use nfc::{load, registry};
use nfc_backend::{AnyBackend, Apply, Process, Question};
use nfc_ir::{Family, Ir, Packet, ProxyMode};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::{Judge, Landing, Misled, Settings, World, need};
use nfc_manifest::{Document, source};
use nfc_netns_tests::case::{self, Case, Scene};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a backend needs. Where a kernel lacks it, `scripts/guest-test` has one that does not.
pub fn needs(backend: &str, family: Family) -> Vec<Feature> {
    let own: &[_] = match (backend, family) {
        ("nft" | "nft-constant-time", _) => &[Feature::Nftables],
        ("iptables", Family::Ipv4) => &[Feature::IptablesV4],
        ("iptables", Family::Ipv6) => &[Feature::IptablesV6],
        // The companion of the virtual servers is a table of nf_tables.
        _ => &[Feature::Nftables, Feature::Ipvs],
    };
    [&[Feature::Namespaces], own].concat()
}

/// How long a packet that does not turn up is waited for: `NFC_PATIENCE_MS`, for kernels in
/// software emulation, where a packet may be on its way for longer than anywhere else.
fn patience() -> Option<Duration> {
    let text = std::env::var("NFC_PATIENCE_MS").ok()?;
    Some(Duration::from_millis(text.parse().expect("NFC_PATIENCE_MS in milliseconds")))
}

pub fn backend(name: &str) -> Box<dyn AnyBackend> {
    registry::find(name).unwrap_or_else(|| panic!("no backend is called {name}"))
}

/// The binary, which cargo builds for the tests of its own package only: it lies beside
/// this test's folder.
pub fn nfc() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let folder = test.parent().and_then(Path::parent).expect("the target folder");
    let binary = folder.join("nfc");
    assert!(binary.exists(), "{} is not built: run cargo test --workspace", binary.display());
    binary
}

/// Runs the commands of a page that need root, which the other pages' test leaves out, and
/// holds what they print against what the page says. A command may run `nfc` again.
pub fn run_page(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::set_current_dir(root.canonicalize().expect("the root")).expect("the root");
    let nfc = nfc();
    let folder = nfc.parent().expect("a folder").to_path_buf();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&inherited));
    let path = std::env::join_paths(folders).expect("folders without colons");
    let cases = trycmd::TestCases::new();
    cases.env("PATH", path.to_string_lossy()).register_bin("nfc", nfc).case(page);
}

/// What a scene means under the promises of `mode`.
pub fn meaning(case: &Case, scene: &Scene, mode: ProxyMode) -> Ir {
    let document = |text: &str| Document { name: case.name.clone(), text: text.to_owned() };
    let (settings, _) = nfc_manifest::read_settings(&document(&case.config))
        .unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false)));
    let settings =
        nfc_manifest::Settings { families: [scene.family].into(), ..settings.for_mode(mode) };
    let mut loaded = nfc_manifest::load(&[document(&scene.objects)], &settings)
        .unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false)));
    loaded.irs.remove(&scene.family).expect("the family that was asked for")
}

/// What the example of this name means for `backend`, under the settings beside it.
pub fn example(name: &str, backend: &dyn AnyBackend) -> BTreeMap<Family, Ir> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let config = folder.join(format!("{name}.kube-proxy.yaml"));
    let settings = if config.exists() {
        let document = source::read_file(&config).expect("readable settings");
        nfc_manifest::read_settings(&document).expect("settings without a flaw").0
    } else {
        nfc_manifest::Settings::default()
    };
    let documents = source::read(&[folder.join(format!("{name}.yaml"))]).expect("a manifest");
    let loaded = nfc_manifest::load(&documents, &settings.for_mode(backend.mode()));
    loaded.unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false))).irs
}

/// The names of all examples.
pub fn examples() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(folder).expect("the folder of examples");
    let names = files.filter_map(|f| f.ok()?.file_name().into_string().ok());
    let manifests = names.filter(|n| n.ends_with(".yaml") && !n.contains(".kube-proxy."));
    let names: Vec<_> = manifests.map(|n| n.trim_end_matches(".yaml").to_owned()).collect();
    assert!(names.len() > 3, "there must be examples");
    names
}

/// A world whose node has the addresses that `ir` says, with its rules loaded.
pub struct Stage {
    pub world: World,
    judge: Judge,
}

impl Stage {
    pub fn new(ir: &Ir) -> Self {
        let settings =
            Settings { node_addresses: ir.node().addresses.clone(), ..Settings::default() };
        let world = World::with(settings).expect("a world");
        let judge = Judge::new(&world).expect("a witness");
        let judge = match patience() {
            Some(patience) => judge.with_patience(patience),
            None => judge,
        };
        Self { world, judge }
    }

    pub fn load(&self, backend: &dyn AnyBackend, ir: &Ir) {
        let loaded = inside(self.world.node(), || load::apply(backend, ir, &mut Kernel::new()));
        loaded.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Sends the difference between two programs.
    pub fn update(&self, backend: &dyn AnyBackend, old: &Ir, new: &Ir) {
        let patch = backend.diff(&backend.lower(old).program, &backend.lower(new).program);
        let steps = backend.encode(&patch);
        let updated = inside(self.world.node(), || Kernel::new().apply(&steps));
        updated.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    }

    /// Sends `packet` as a connection of its own.
    pub fn send(&mut self, packet: &Packet) -> Landing {
        self.judge.send(packet).unwrap_or_else(|error| panic!("{packet}: {error}"))
    }

    /// Sends `packet` from the very port that it names.
    pub fn send_as_is(&mut self, packet: &Packet) -> Landing {
        self.judge.send_as_is(packet).unwrap_or_else(|error| panic!("{packet}: {error}"))
    }

    /// Sends `packet` until every endpoint that `eval` allows was seen; says what went
    /// wrong, if anything.
    pub fn judge(&mut self, ir: &Ir, mode: ProxyMode, packet: &Packet) -> Result<(), Misled> {
        self.judge.judge(ir, mode, packet)
    }

    /// Holds each packet of the sample with this seed against what `ir` means.
    pub fn hold(&mut self, seed: u64, ir: &Ir, mode: ProxyMode, packets: &[Packet]) {
        for packet in packets {
            let told = self.judge(ir, mode, packet);
            told.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}\n{ir}\n{:?}", ir.node()));
        }
    }
}

/// Every packet of every case, through the rules of the backend of this name. Also in modes
/// that a case does not judge: there `eval` is the judge.
pub fn cases_hold(name: &str, family: Family) {
    if !need(&format!("packets of the {family} cases through {name}"), &needs(name, family)) {
        return;
    }
    let backend = backend(name);
    let mut judged = 0;
    let mut wrong = Vec::new();
    for case in case::all() {
        for scene in case.scenes.iter().filter(|s| s.family == family) {
            let ir = meaning(&case, scene, backend.mode());
            let mut stage = Stage::new(&ir);
            stage.load(backend.as_ref(), &ir);
            for flow in &scene.flows {
                judged += 1;
                let told = stage.judge(&ir, backend.mode(), &flow.packet);
                wrong.extend(told.err().map(|e| format!("{}: {e}", case.name)));
            }
        }
    }
    assert!(judged > 3, "only {judged} packets were judged");
    assert!(wrong.is_empty(), "{} of {judged}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs `work` in `namespace`.
pub fn inside<T>(namespace: &Namespace, work: impl FnOnce() -> T) -> T {
    namespace.run(work).expect("the namespace can be entered")
}

/// What a tool prints in `namespace`.
pub fn tool(namespace: &Namespace, program: &'static str, args: &[&str], stdin: &str) -> String {
    let args = args.iter().map(|a| (*a).to_owned()).collect();
    let question = Question::Process(Process { program, args, stdin: stdin.to_owned() });
    let answers = inside(namespace, || Kernel::new().ask(&[question]));
    let mut answers = answers.unwrap_or_else(|refusal| panic!("{program}: {refusal:?}"));
    let answer = answers.pop().expect("one answer for one question");
    String::from_utf8(answer.0).expect("text")
}
