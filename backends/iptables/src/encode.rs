//! Patches as steps: one process that reads both tables, and at times a sysctl.
//!
//! The tool commits table by table, filter first: should nat be refused, filter has changed
//! already. Within a table all happens at once or nothing does.
//!
//! Invariant: knows which tool reads the text, not how a rule is spelled.

use crate::diff::{Changes, Patch};
use crate::names::{ChainName, Table};
use nfc_backend::{Fault, Origin, Process, Question, Step};
use nfc_ir::{Family, ServiceName};

/// How many seconds to wait for another process to release the tables' lock.
const LOCK_TIMEOUT_SECONDS: &str = "5";

/// The switch that has loopback addresses routed on all links (`route_localnet`,
/// `Documentation/networking/ip-sysctl.rst`).
const ROUTE_LOCALNET: &str = "net.ipv4.conf.all.route_localnet";

/// The steps that carry out `patch`. Loopback is opened after the rules that guard it are
/// there, and closed before they go.
pub(crate) fn encode(patch: &Patch) -> Vec<Step> {
    let mut steps = Vec::new();
    let stdin = patch.to_string();
    if !stdin.is_empty() {
        steps.push(Step::Process(restore(patch.family, stdin)));
    }
    if let Some(is_on) = patch.route_localnet {
        let value = u8::from(is_on).to_string();
        let sysctl = Step::Sysctl { name: ROUTE_LOCALNET.to_owned(), value };
        steps.insert(if is_on { steps.len() } else { 0 }, sysctl);
    }
    steps
}

fn restore(family: Family, stdin: String) -> Process {
    let program = match family {
        Family::Ipv4 => "iptables-legacy-restore",
        Family::Ipv6 => "ip6tables-legacy-restore",
    };
    let args = ["-w", LOCK_TIMEOUT_SECONDS, "--noflush"];
    Process { program, args: args.map(str::to_owned).to_vec(), stdin }
}

/// What must be read to know what is there.
pub(crate) fn questions(family: Family) -> Vec<Question> {
    let program = match family {
        Family::Ipv4 => "iptables-legacy-save",
        Family::Ipv6 => "ip6tables-legacy-save",
    };
    vec![Question::Process(Process { program, args: Vec::new(), stdin: String::new() })]
}

/// What stands at the line that the tool complained about.
pub(crate) fn blame(patch: &Patch, fault: &Fault) -> Origin {
    if let Some(Step::Sysctl { name, .. }) = encode(patch).get(fault.step) {
        return Origin { service: None, object: name.clone() };
    }
    let text = patch.to_string();
    let Some(line) = fault.message else {
        return Origin { service: None, object: format!("{} tables", patch.family) };
    };
    let mut place = Place::default();
    for line in text.lines().take(line + 1) {
        place.advance(line);
    }
    let service = place.chain.and_then(|chain| {
        let changes = patch.tables.get(place.table?);
        service_at(changes, chain, place.rule)
    });
    let table = place.table.map_or(String::new(), |t| format!("table {t}: "));
    Origin { service, object: format!("{table}{}", place.line) }
}

/// A line of restore text, and where in which chain it stands.
#[derive(Default)]
struct Place<'a> {
    table: Option<Table>,
    chain: Option<ChainName>,
    /// Index of the rule in its chain; `None` on lines that append no rule.
    rule: Option<usize>,
    line: &'a str,
}

impl<'a> Place<'a> {
    fn advance(&mut self, line: &'a str) {
        if let Some(name) = line.strip_prefix('*') {
            self.table = Table::ALL.into_iter().find(|t| t.to_string() == name);
        }
        let is_append = line.starts_with("-A ");
        let name = line
            .strip_prefix(':')
            .or_else(|| line.strip_prefix("-A "))
            .or_else(|| line.strip_prefix("-X "));
        let chain = name.and_then(|rest| {
            let name = rest.split(' ').next().unwrap_or_default();
            ChainName::parse(self.table?, name)
        });
        let is_next = is_append && self.rule.is_some() && chain == self.chain;
        self.rule = match self.rule {
            Some(rule) if is_next => Some(rule + 1),
            _ => is_append.then_some(0),
        };
        self.chain = chain;
        self.line = line;
    }
}

fn service_at(changes: &Changes, name: ChainName, rule: Option<usize>) -> Option<ServiceName> {
    let chain = changes.written.get(&name);
    let of_rule = chain.zip(rule).and_then(|(c, i)| c.rules.get(i)?.service.clone());
    let of_chain = || chain.and_then(|c| Some(c.owner.as_ref()?.service.clone()));
    let of_deleted = || Some(changes.deleted.get(&name)?.as_ref()?.service.clone());
    let service = of_rule.or_else(of_chain).or_else(of_deleted)?;
    Some(ServiceName::clone(&service))
}
