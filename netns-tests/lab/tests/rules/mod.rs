//! Rules written by hand, so that nothing of ours but the lab is under test.

use nfc_backend::{Apply, Process, Step};
use nfc_kernel::Kernel;
use nfc_lab::World;

/// Has `nft` load `rules` on the node.
pub(crate) fn load(world: &World, rules: &str) {
    let args = vec!["-f".to_owned(), "-".to_owned()];
    let nft = Process { program: "nft", args, stdin: rules.to_owned() };
    let loaded = world.node().run(|| Kernel::new().apply(&[Step::Process(nft)]));
    loaded.expect("a namespace").expect("rules that nft takes");
}
