//! Links of the calling thread's namespace: what tests and benches lay out before they begin.
//!
//! Invariant: sends what [`nfc_netlink::route`] wrote; decides nothing about topology.

use crate::Kernel;
use nfc_backend::{Apply, Question, Refusal, Step};
use nfc_netlink::route::{self, Address, Link, RouteWriter};

/// Carries out what `fill` asks for, in one `send`.
///
/// # Errors
///
/// [`Refusal`]: the requests that failed; all others took effect.
pub fn change(fill: impl FnOnce(&mut RouteWriter)) -> Result<(), Refusal> {
    let mut writer = RouteWriter::new();
    fill(&mut writer);
    Kernel::new().apply(&[Step::Route(writer.into_bytes())]).map(drop)
}

/// All links.
///
/// # Errors
///
/// [`Refusal`] when the kernel does not answer.
pub fn list() -> Result<Vec<Link>, Refusal> {
    ask(RouteWriter::list_links, |answer| route::links(answer).collect())
}

/// The link of this name, if there is one.
///
/// Asking for it by name also makes the kernel act upon a change of its carrier that it has
/// only noted so far (`linkwatch_sync_dev` in `rtnl_getlink`, Linux 6.8); until then packets
/// are thrown away.
///
/// # Errors
///
/// [`Refusal`] when there is none, or the kernel does not answer.
pub fn find(name: &str) -> Result<Option<Link>, Refusal> {
    let found = ask(|w| w.find_link(name), |answer| route::links(answer).collect())?;
    Ok(found.into_iter().next())
}

/// All addresses of both families.
///
/// # Errors
///
/// [`Refusal`] when the kernel does not answer.
pub fn addresses() -> Result<Vec<Address>, Refusal> {
    ask(RouteWriter::list_addresses, |answer| route::addresses(answer).collect())
}

fn ask<T>(
    fill: impl FnOnce(&mut RouteWriter),
    read: impl FnOnce(&[u8]) -> Vec<T>,
) -> Result<Vec<T>, Refusal> {
    let mut writer = RouteWriter::new();
    fill(&mut writer);
    let answers = Kernel::new().ask(&[Question::Route(writer.into_bytes())])?;
    Ok(answers.first().map(|answer| read(&answer.0)).unwrap_or_default())
}
