//! What a patch changes, in a few lines for people.
//!
//! Invariant: one line for the table or for each set and chain, however many elements.

use crate::diff::{ChainChange, Fate, Patch, SetChange};
use crate::encode;
use nfc_backend::counted;

impl Patch {
    /// One line for each thing that changes; none when nothing does.
    #[must_use]
    pub fn summary(&self) -> Vec<String> {
        let whole = match self.fate {
            Fate::Keep => None,
            Fate::Create | Fate::Replace => Some("loaded as a whole"),
            Fate::Delete | Fate::Clear => Some("deleted"),
        };
        if let Some(done) = whole {
            let pieces = encode::transaction_count(self);
            let parts = match pieces {
                0 | 1 => String::new(),
                _ => format!(", in {pieces} transactions, of which the last hooks it in"),
            };
            return vec![format!("table {}: {done}{parts}", self.table)];
        }
        let sets = self.sets.iter().map(|(name, change)| format!("set {name}: {}", of_set(change)));
        let chains =
            self.chains.iter().map(|(name, change)| format!("chain {name}: {}", of_chain(change)));
        sets.chain(chains).collect()
    }
}

fn of_set(change: &SetChange) -> String {
    let elements = |count| counted(count, "element");
    match change {
        SetChange::Add(set) => format!("added with {}", elements(set.elements.len())),
        SetChange::Rebuild(set) => format!("made anew with {}", elements(set.elements.len())),
        SetChange::Delete => "deleted".to_owned(),
        SetChange::Update { gone, come, .. } => {
            format!("{} deleted, {} added", elements(gone.len()), come.len())
        }
    }
}

fn of_chain(change: &ChainChange) -> &'static str {
    match change {
        ChainChange::Add(_) => "added",
        ChainChange::Rebuild(_) => "made anew",
        ChainChange::Refill(_) => "rules written anew",
        ChainChange::Delete => "deleted",
    }
}
