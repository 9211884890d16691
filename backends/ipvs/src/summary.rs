//! What a patch changes, and what it leaves to a later one, in a few lines for people.
//!
//! Invariant: one line for each kind of thing that changes, and one for each virtual server
//! that keeps real servers, however many those are.

use crate::diff::{Command, Draining, LinkChange, Patch};
use crate::names;
use crate::program::ServerKey;
use nfc_ruleset::{Fate, SetChange};

/// One line for each kind of thing that changes; none when nothing does.
pub(crate) fn changes(patch: &Patch) -> Vec<String> {
    let commands: Vec<_> = patch.servers.values().flat_map(|change| &change.commands).collect();
    let count = |is: fn(&Command) -> bool| commands.iter().filter(|command| is(command)).count();
    let servers = [
        (count(|c| matches!(c, Command::AddServer)), "added"),
        (count(|c| matches!(c, Command::SetServer)), "set anew"),
        (count(|c| matches!(c, Command::DeleteServer)), "deleted"),
    ];
    let reals = [
        (count(|c| matches!(c, Command::AddReal(..))), "added"),
        (count(|c| matches!(c, Command::SetReal(..))), "with another weight"),
        (count(|c| matches!(c, Command::DrainReal(_))), "from now on without new connections"),
        (count(|c| matches!(c, Command::DeleteReal(_))), "deleted"),
    ];
    let routes = [(patch.bound.len(), "added"), (patch.unbound.len(), "deleted")];
    let mut lines: Vec<String> = patch.sysctls.iter().map(|_| "sysctls: set".to_owned()).collect();
    lines.extend(line("virtual servers", &servers));
    lines.extend(line("real servers", &reals));
    lines.extend(line("local routes", &routes));
    if patch.link != LinkChange::Keep {
        lines.push(format!("link {}: gives way to local routes", names::LINK));
    }
    lines.extend(companion(patch).summary().into_iter().map(
        |line| match line.starts_with("table ") {
            true => line,
            false => format!("table {}, {line}", names::TABLE),
        },
    ));
    lines
}

/// What the companion grows by and what it shrinks by, as one change.
fn companion(patch: &Patch) -> nfc_ruleset::Patch {
    let mut whole = patch.grow.clone();
    if patch.shrink.fate != Fate::Keep {
        whole.fate = patch.shrink.fate;
    }
    for (name, shrunk) in &patch.shrink.sets {
        match (whole.sets.get_mut(name), shrunk) {
            (None, _) => drop(whole.sets.insert(name.clone(), shrunk.clone())),
            (Some(SetChange::Update { gone, .. }), SetChange::Update { gone: later, .. }) => {
                later.iter().for_each(|row| gone.push_row(row));
            }
            // One that is made anew is told as a whole.
            (Some(_), _) => {}
        }
    }
    whole.chains.extend(patch.shrink.chains.clone());
    whole
}

fn line(what: &str, counts: &[(usize, &str)]) -> Option<String> {
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts: Vec<_> = counts.map(|(count, done)| format!("{count} {done}")).collect();
    (!counts.is_empty()).then(|| format!("{what}: {}", counts.join(", ")))
}

/// The real servers that are left until their connections are over; none when there is none.
pub(crate) fn unfinished(patch: &Patch) -> Vec<String> {
    let count: usize = patch.draining.values().map(|draining| draining.reals.len()).sum();
    let head = match count {
        0 => return Vec::new(),
        1 => "1 real server drains; apply again to delete it once its connections are over:".into(),
        _ => format!(
            "{count} real servers drain; apply again to delete those whose connections are over:"
        ),
    };
    std::iter::once(head).chain(patch.draining.iter().map(drained)).collect()
}

fn drained((key, Draining { service, reals }): (&ServerKey, &Draining)) -> String {
    let reals = reals.iter().map(|(real, connections)| match connections {
        1 => format!("{real} (1 connection)"),
        _ => format!("{real} ({connections} connections)"),
    });
    let ServerKey { address, protocol } = key;
    format!("{service} at {address}/{protocol}: {}", reals.collect::<Vec<_>>().join(", "))
}
