//! A world with rules in it, and packets sent through: what the tests against the kernel
//! share.

#![allow(dead_code, reason = "each test file uses its own part")]

use nfc::{load, registry};
use nfc_backend::{AnyBackend, Apply, Process, Question};
use nfc_ir::{Family, Ir, Outcome, Packet, ProxyMode, eval};
use nfc_kernel::{Feature, Kernel, Namespace};
use nfc_lab::{Landing, Settings, Witness, World};
use nfc_manifest::{Document, source};
use nfc_netns_tests::case::{Case, Scene};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What the two backends that every kernel here has need.
pub fn needs(backend: &str, family: Family) -> Vec<Feature> {
    let own = match (backend, family) {
        ("nft", _) => Feature::Nftables,
        ("iptables", Family::Ipv4) => Feature::IptablesV4,
        ("iptables", Family::Ipv6) => Feature::IptablesV6,
        _ => Feature::Ipvs,
    };
    vec![Feature::Namespaces, own]
}

pub fn backend(name: &str) -> Box<dyn AnyBackend> {
    registry::find(name).unwrap_or_else(|| panic!("no backend is called {name}"))
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
    witness: Witness,
    port: u16,
}

impl Stage {
    pub fn new(ir: &Ir) -> Self {
        let settings =
            Settings { node_addresses: ir.node().addresses.clone(), ..Settings::default() };
        let world = World::with(settings).expect("a world");
        let witness = Witness::new(&world).expect("a witness");
        Self { world, witness, port: 20_000 }
    }

    pub fn load(&self, backend: &dyn AnyBackend, ir: &Ir) {
        let loaded = inside(self.world.node(), || load::apply(backend, ir, &mut Kernel::new()));
        loaded.unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Sends `packet` as a connection of its own.
    pub fn send(&mut self, packet: &Packet) -> Landing {
        self.port = if self.port == 60_000 { 20_000 } else { self.port + 1 };
        let mut packet = packet.clone();
        packet.source.set_port(self.port);
        self.witness.send(&packet).unwrap_or_else(|error| panic!("{packet}: {error}"))
    }

    /// Sends `packet` until every endpoint that `eval` allows was seen; says what went
    /// wrong, if anything.
    pub fn judge(&mut self, ir: &Ir, mode: ProxyMode, packet: &Packet) -> Result<(), String> {
        let meant = eval(ir, mode, packet);
        let mut unseen: BTreeSet<_> = meant.endpoints().collect();
        // The rarest endpoint of a sample has a share of about one in sixteen.
        let tries = if matches!(meant, Outcome::Balance(_)) { 400 } else { 1 };
        for _ in 0..tries {
            let landing = self.send(packet);
            if !landing.agrees_with(&meant) {
                return Err(format!("{packet}: {landing}, meant: {meant}"));
            }
            if let Landing::Endpoint(choice) = landing {
                unseen.remove(&choice);
                if is_sticky(ir, packet) {
                    return Ok(());
                }
            }
            if unseen.is_empty() {
                return Ok(());
            }
        }
        Err(format!("{packet}: never landed at {unseen:?}, meant: {meant}"))
    }
}

/// Whether all connections from one client go to one endpoint.
fn is_sticky(ir: &Ir, packet: &Packet) -> bool {
    let port = packet.destination.port();
    ir.services().iter().filter(|s| s.affinity.is_some() && s.protocol == packet.protocol).any(
        |s| s.port.get() == port || s.node_port.is_some_and(|node_port| node_port.get() == port),
    )
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
