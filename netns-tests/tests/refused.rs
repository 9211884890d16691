//! What the kernel refuses is told in the user's terms: the Service, the element, and the
//! kernel's own words, out of a transaction with hundreds of thousands of elements.

#![allow(clippy::expect_used, clippy::panic, reason = "a test panics to keep its backtrace")]
#![allow(clippy::print_stdout, reason = "a test says what came of chance")]

mod stage;

use nfc::load::{self, Loaded};
use nfc_backend::{
    Answer, AnyBackend, AnyPatch, Apply, Fault, Process, Question, Receipt, Refusal, Step,
};
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Family, Ir, Node, Protocol};
use nfc_kernel::{Kernel, Namespace};
use nfc_lab::need;
use stage::{NFT, backend, inside, tool};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

fn services(count: u32, protocol: Protocol) -> Ir {
    let node = Node { name: "node-a".to_owned(), ..Node::default() };
    synth::cluster_ips(Family::Ipv4, protocol, count, 1, node).expect("valid")
}

/// A node whose Services are to go from one protocol to the other.
struct Changing {
    node: Namespace,
    backend: Box<dyn AnyBackend>,
    old: Ir,
    new: Ir,
    patch: AnyPatch,
    steps: Vec<Step>,
}

/// The service, the object and the words of a fault.
type Told = (String, String, String);

impl Changing {
    fn new(count: u32) -> Self {
        let backend = backend("nft");
        let (old, new) = (services(count, Protocol::Udp), services(count, Protocol::Tcp));
        let [before, after] = [&old, &new].map(|ir| backend.lower(ir).program);
        let patch = backend.diff(&before, &after);
        let steps = backend.encode(&patch);
        let changing =
            Self { node: Namespace::new().expect("a namespace"), backend, old, new, patch, steps };
        changing.apply(&changing.old, Kernel::new());
        changing
    }

    fn apply(&self, ir: &Ir, mut kernel: Kernel) -> Loaded {
        let apply = || load::apply(self.backend.as_ref(), ir, &mut kernel);
        inside(&self.node, apply).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn script(&self, text: &str) {
        tool(&self.node, "nft", &["-f", "-"], text);
    }

    /// The element of a Service, without its value.
    fn key(&self, i: usize, protocol: &str) -> String {
        format!("{} . {protocol} . 80", self.new.services()[i].cluster_ip)
    }

    /// What somebody else says about some Services, in the way of what they become.
    fn rogue(&self, services: &[usize]) -> String {
        let rogue: Vec<_> =
            services.iter().map(|i| format!("{} : drop", self.key(*i, "tcp"))).collect();
        format!("element ip nfc services {{ {} }}", rogue.join(", "))
    }

    /// What the kernel says to the change.
    fn faults(&self, mut kernel: Kernel) -> Vec<Fault> {
        let refusal = inside(&self.node, || kernel.apply(&self.steps)).expect_err("a refusal");
        let Refusal::Refused { faults, done: 0, .. } = refusal else {
            panic!("refused as a whole: {refusal}");
        };
        faults
    }

    fn told(&self, fault: &Fault) -> Told {
        let origin = self.backend.blame(&self.patch, fault);
        let service = origin.service.map(|service| service.to_string()).unwrap_or_default();
        (service, origin.object, fault.to_string())
    }

    fn expected(&self, i: usize, verb: &str, words: &str) -> Told {
        let protocol = if verb == "add" { "tcp" } else { "udp" };
        let name = self.new.services()[i].name.to_string();
        let object = format!("{verb} element services {{ {} }}", self.key(i, protocol));
        (name, object, words.to_owned())
    }
}

const EXISTS: &str = "File exists (os error 17)";
const MISSING: &str = "No such file or directory (os error 2)";
const UNSEARCHED: &str = "of some lists only the first bad element was looked for";

#[test]
fn every_element_that_is_refused_is_told_by_the_name_of_its_service() {
    if !need("every element that is refused is told by the name of its Service", &NFT) {
        return;
    }
    let changing = Changing::new(100_000);
    let bytes: usize = changing.steps.iter().map(Step::byte_count).sum();
    assert!(bytes > 10_000_000, "a large transaction: {bytes} bytes");
    // Some of these are in one list, which the kernel leaves at the first one.
    let (come, gone) = ([7, 8, 30_000, 30_001, 30_007, 99_999], [5, 6, 70_000]);
    let rogue = changing.rogue(&come);
    let udp = gone.map(|i| changing.key(i, "udp")).join(", ");
    changing.script(&format!("add {rogue}; delete element ip nfc services {{ {udp} }}"));
    let faults = changing.faults(Kernel::new());
    let told: Vec<_> = faults.iter().map(|fault| changing.told(fault)).collect();
    let gone = gone.map(|i| changing.expected(i, "delete", MISSING));
    let come = come.map(|i| changing.expected(i, "add", EXISTS));
    assert_eq!(told, [gone.as_slice(), come.as_slice()].concat());
    // Nothing of it took effect: but for what somebody else did, all is as it was.
    changing.script(&format!("delete {rogue}"));
    let again = changing.apply(&changing.old, Kernel::new());
    assert_eq!(again.changes, ["set services: 0 elements deleted, 3 added"]);
    what_is_not_searched_is_owned_up_to(&changing);
}

/// More than one bad element in each list, and more lists than are searched.
fn what_is_not_searched_is_owned_up_to(changing: &Changing) {
    let everywhere: Vec<_> = (0..100_000).step_by(100).collect();
    let rogue = changing.rogue(&everywhere);
    changing.script(&format!("add {rogue}"));
    let faults = changing.faults(Kernel::new());
    let (whole, named) = faults.split_first().expect("a fault");
    assert_eq!((whole.message, whole.to_string().as_str()), (None, UNSEARCHED));
    let in_list = |fault: &Fault| named.iter().filter(|f| f.message == fault.message).count();
    let lists: BTreeSet<_> = named.iter().map(|fault| fault.message).collect();
    assert!(in_list(&named[0]) > 1 && in_list(&named[named.len() - 1]) == 1);
    assert!(lists.len() < named.len() && named.len() < everywhere.len());
    changing.script(&format!("delete {rogue}"));
    assert!(changing.apply(&changing.old, Kernel::new()).unchanged);
}

/// A batch that is longer than the send buffer is refused by `send` (`netlink_sendmsg` in
/// `net/netlink/af_netlink.c`), and a batch in pieces is longer than it was.
#[test]
fn what_there_is_no_room_to_send_is_not_begun() {
    if !need("what there is no room to send is not begun", &NFT) {
        return;
    }
    let changing = Changing::new(1_000);
    let bytes: usize = changing.steps.iter().map(Step::byte_count).sum();
    // The kernel grants twice as much.
    let mut tight = Kernel::new().with_request_bytes(bytes / 4);
    let refusal = inside(&changing.node, || tight.apply(&changing.steps));
    let Err(Refusal::Missing { what, why }) = refusal else {
        panic!("there was room: {refusal:?}");
    };
    assert!(what == "room to send so much at once" && why.contains("EMSGSIZE"), "{what}: {why}");
    assert!(changing.apply(&changing.old, Kernel::new()).unchanged);

    let rogue = changing.rogue(&[7, 8]);
    changing.script(&format!("add {rogue}"));
    let once = Kernel::new().with_request_bytes((bytes + 20_000) / 2);
    let told: Vec<_> = changing.faults(once).iter().map(|f| changing.told(f)).collect();
    let whole = (String::new(), "table nfc".to_owned(), UNSEARCHED.to_owned());
    assert_eq!(told, [whole, changing.expected(7, "add", EXISTS)]);
    changing.script(&format!("delete {rogue}"));
    assert!(changing.apply(&changing.old, Kernel::new()).unchanged);
}

/// The kernel keeps its answers ready until they are read, and drops those that it has no room
/// for (`netlink_overrun` in `net/netlink/af_netlink.c`).
#[test]
fn faults_that_there_is_no_room_for_are_said_to_be_lost() {
    if !need("faults that there is no room for are said to be lost", &NFT) {
        return;
    }
    let changing = Changing::new(1_000);
    // The set has no room for a thousand more.
    let half: Vec<_> = (0..1_000).step_by(2).collect();
    let rogue = changing.rogue(&half);
    changing.script(&format!("add {rogue}"));
    let expected: Vec<_> = half.iter().map(|i| changing.expected(*i, "add", EXISTS)).collect();
    let tell = |kernel| -> Vec<_> {
        changing.faults(kernel).iter().map(|fault| changing.told(fault)).collect()
    };
    assert_eq!(tell(Kernel::new()), expected, "with room for all");

    for bytes in [1, 5_000, 100_000] {
        let told = tell(Kernel::new().with_answer_bytes(bytes));
        let (lost, some) = told.split_first().expect("a fault");
        let (service, object, words) = lost;
        assert_eq!((service.as_str(), object.as_str()), ("", "table nfc"));
        assert!(words.contains("more faults than the receive buffer could take"), "{words}");
        assert!(!some.is_empty() && some.len() < half.len(), "{} faults", some.len());
        assert!(some.iter().all(|fault| expected.contains(fault)), "{some:?}");
    }
    // Nothing took effect.
    changing.script(&format!("delete {rogue}"));
    let tight = Kernel::new().with_answer_bytes(1);
    assert!(changing.apply(&changing.old, tight).unchanged);
    // With no room to speak of, rules are read and put right all the same.
    changing.script(&format!("add {rogue}"));
    changing.apply(&changing.new, tight);
    assert!(changing.apply(&changing.new, Kernel::new()).unchanged);
}

/// A transaction that is refused is sent again to find out why, and may be taken then.
#[test]
fn a_cause_that_comes_and_goes_leaves_the_old_rules_or_the_new() {
    if !need("a cause that comes and goes leaves the old rules or the new", &NFT) {
        return;
    }
    let changing = Changing::new(500);
    let (node, rogue) = (&changing.node, changing.rogue(&[7, 8]));
    let (pause, busy) = (Mutex::new(()), AtomicBool::new(true));
    let meddle = || {
        for verb in ["add", "delete"].repeat(40) {
            let args = ["-f", "-"].map(str::to_owned).to_vec();
            let script = Process { program: "nft", args, stdin: format!("{verb} {rogue}") };
            let held = pause.lock();
            // It is refused where the elements are there already, or not there.
            let _ = inside(node, || Kernel::new().apply(&[Step::Process(script)]));
            drop(held);
            sleep(Duration::from_millis(10));
        }
        busy.store(false, Ordering::Relaxed);
    };
    let (mut told, mut dice) = (Vec::new(), Dice::new(1));
    std::thread::scope(|scope| {
        scope.spawn(meddle);
        while busy.load(Ordering::Relaxed) {
            sleep(Duration::from_micros(dice.below(60_000).into()));
            let applied = inside(node, || Kernel::new().apply(&changing.steps));
            let _held = pause.lock();
            told.push((applied, changing.apply(&changing.old, Kernel::new()).changes));
        }
    });
    for (applied, back) in &told {
        // But for the two elements that come and go.
        let was_old = back.is_empty() || back == &["set services: 2 elements deleted, 0 added"];
        assert_eq!(applied.is_err(), was_old, "{applied:?}, then {back:?}");
    }
    let done = told.iter().filter(|(applied, _)| applied.is_ok()).count();
    println!("{done} of {} were carried out", told.len());
}

/// Refuses whatever it is told to do, at a hundred and fifty places.
struct Refusing;

impl Apply for Refusing {
    fn apply(&mut self, _steps: &[Step]) -> Result<Receipt, Refusal> {
        let fault = |place| {
            let message = Some(place);
            Fault { step: 0, message, offset: None, errno: 0, words: format!("fault {place}") }
        };
        Err(Refusal::Refused { kind: "nftables", faults: (0..150).map(fault).collect(), done: 0 })
    }

    fn ask(&mut self, questions: &[Question]) -> Result<Vec<Answer>, Refusal> {
        Ok(vec![Answer::default(); questions.len()])
    }
}

#[test]
fn a_report_names_a_hundred_faults_and_counts_the_others() {
    let (backend, ir) = (backend("nft"), services(10, Protocol::Tcp));
    let failure = load::apply(backend.as_ref(), &ir, &mut Refusing).expect_err("a refusal");
    let text = failure.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + load::NAMED_MAX + 1, "{text}");
    assert_eq!(lines[1], "  add table nfc: fault 0");
    assert!(
        lines[load::NAMED_MAX].ends_with("fault 99") && lines[101] == "  and 50 more",
        "{text}"
    );
}
