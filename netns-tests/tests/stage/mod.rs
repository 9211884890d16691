//! A world with rules in it, packets sent through, and `nfc` as a process: what the tests against
//! the kernel share.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod desk;
pub mod terminal;

use nfc::load::{self, Loaded};
use nfc::registry;
use nfc_backend::{AnyBackend, Apply, Process, Question};
use nfc_ir::{Family, Ir, Packet, ProxyMode};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::{Judge, Landing, Misled, WitnessError, World, need};
use nfc_manifest::{Document, Settings, source};
use nfc_netns_tests::case::{self, Case, Scene};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What it takes to load rules of nftables and to list them.
pub const NFT: [Feature; 3] = [Feature::Namespaces, Feature::Nftables, Feature::NftTool];

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

/// The root of the project, where examples and pages are named from.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
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

/// `nfc` at the root of the project.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(nfc());
    command.args(args).current_dir(root());
    command
}

/// Runs `nfc` at the root of the project, with `stdin` to read.
pub fn run(args: &[&str], stdin: &str) -> Output {
    fed(&mut command(args), stdin)
}

/// Runs a command to its end; it has to take what it is given to read.
pub fn fed(command: &mut Command, stdin: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(stdin.as_bytes()).expect("a reader");
    drop(pipe);
    child.wait_with_output().expect("the command ends")
}

/// What a command said.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A name for `namespace` that other processes understand.
pub fn path(namespace: &Namespace) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd())
}

/// Runs the commands of a page that need root, which the other pages' test leaves out, and
/// holds what they print against what the page says. A command may run `nfc` again.
pub fn run_page(page: &str) {
    std::env::set_current_dir(root().canonicalize().expect("the root")).expect("the root");
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
    read(&case.name, &case.config, &scene.objects, scene.family, mode)
}

/// What `objects` mean in one family, under the settings of `config` and the promises of `mode`.
pub fn read(name: &str, config: &str, objects: &str, family: Family, mode: ProxyMode) -> Ir {
    let document = |text: &str| Document { name: name.to_owned(), text: text.to_owned() };
    let (settings, _) = nfc_manifest::read_settings(&document(config))
        .unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false)));
    let settings = Settings { families: [family].into(), ..settings.for_mode(mode) };
    let mut loaded = nfc_manifest::load(&[document(objects)], &settings)
        .unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false)));
    loaded.irs.remove(&family).expect("the family that was asked for")
}

/// What the example of this name means for `backend`, under the settings beside it.
pub fn example(name: &str, backend: &dyn AnyBackend) -> BTreeMap<Family, Ir> {
    let is_beside = root().join(format!("examples/{name}.kube-proxy.yaml")).exists();
    let settings = if is_beside { settings_beside(name) } else { Settings::default() };
    example_under(name, settings, backend)
}

/// The settings beside the example of this name.
pub fn settings_beside(name: &str) -> Settings {
    let config = root().join(format!("examples/{name}.kube-proxy.yaml"));
    let document = source::read_file(&config).expect("readable settings");
    nfc_manifest::read_settings(&document).expect("settings without a flaw").0
}

/// What the example of this name means for `backend` under other settings.
pub fn example_under(
    name: &str,
    settings: Settings,
    backend: &dyn AnyBackend,
) -> BTreeMap<Family, Ir> {
    let manifest = root().join(format!("examples/{name}.yaml"));
    let documents = source::read(&[manifest]).expect("a manifest");
    let loaded = nfc_manifest::load(&documents, &settings.for_mode(backend.mode()));
    loaded.unwrap_or_else(|d| panic!("{}", nfc_manifest::render_all(&d, false))).irs
}

/// The names of all examples.
pub fn examples() -> Vec<String> {
    let files = std::fs::read_dir(root().join("examples")).expect("the folder of examples");
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
        let world = World::of(ir).expect("a world");
        let judge = Judge::new(&world).expect("a witness");
        let judge = match patience() {
            Some(patience) => judge.with_patience(patience),
            None => judge,
        };
        Self { world, judge }
    }

    pub fn load(&self, backend: &dyn AnyBackend, ir: &Ir) {
        apply(self.world.node(), backend, ir);
    }

    /// Sends the difference between two programs.
    pub fn update(&self, backend: &dyn AnyBackend, old: &Ir, new: &Ir) {
        let patch = backend.diff(&backend.lower(old).program, &backend.lower(new).program);
        let steps = backend.encode(&patch);
        let updated = inside(self.world.node(), || Kernel::new().apply(&steps));
        updated.unwrap_or_else(|refusal| panic!("{refusal:?}"));
    }

    /// Sends `packet` as a connection of its own, and tells at which endpoint it landed.
    pub fn send(&mut self, packet: &Packet) -> SocketAddr {
        endpoint(packet, self.judge.send(packet))
    }

    /// The same, but `packet` is sent from the very port that it names.
    pub fn send_as_is(&mut self, packet: &Packet) -> SocketAddr {
        endpoint(packet, self.judge.send_as_is(packet))
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

fn endpoint(packet: &Packet, landing: Result<Landing, WitnessError>) -> SocketAddr {
    match landing {
        Ok(Landing::Endpoint(choice)) => choice.endpoint,
        Ok(other) => panic!("{packet} {other}"),
        Err(error) => panic!("{packet}: {error}"),
    }
}

/// Client number `i`, somewhere outside of the cluster.
pub fn client(family: Family, i: u16) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(0xcb00_7100 + u32::from(i)).into(),
        Family::Ipv6 => Ipv6Addr::new(0x2600, 0x5200, 0, 0, 0, 0, 0, i).into(),
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

/// Has the node in `namespace` do what `ir` means.
pub fn apply(namespace: &Namespace, backend: &dyn AnyBackend, ir: &Ir) -> Loaded {
    let loaded = inside(namespace, || load::apply(backend, ir, &mut Kernel::new()));
    loaded.unwrap_or_else(|failure| panic!("{failure}\n{ir}"))
}

/// Deletes what was applied for one family.
pub fn delete(namespace: &Namespace, backend: &dyn AnyBackend, family: Family) {
    let deleted = inside(namespace, || load::delete(backend, family, &mut Kernel::new()));
    deleted.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What nft calls a family.
pub fn family_name(family: Family) -> &'static str {
    if family == Family::Ipv4 { "ip" } else { "ip6" }
}

/// The sets and chains of our table, each as nft lists it, in no order: chains are listed in
/// the order they were made. A set that shrank keeps its room.
pub fn listed(node: &Namespace, family: Family) -> BTreeSet<String> {
    let text = tool(node, "nft", &["list", "table", family_name(family), "nfc"], "");
    let (_, body) = text.split_once('\n').expect("a table");
    let body = body.trim_end().trim_end_matches('}');
    let blocks = body.split("\n\n").map(|block| {
        let lines = block.lines().filter(|line| !line.starts_with("\t\tsize "));
        lines.collect::<Vec<_>>().join("\n")
    });
    blocks.collect()
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
    text(&answer.0)
}
