//! What a backend's tool lists, by chain and set.
//!
//! Invariant: knows how listings are cut into lines, and no rule's meaning.

use nfc_backend::{Answer, AnyBackend, Apply, Refusal};
use nfc_ir::Family;
use std::collections::{BTreeMap, BTreeSet};

/// One line that should be there and is not, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The chain, set or list.
    pub place: String,
    /// Whether the line is there.
    pub is_there: bool,
    /// The line, as the tool prints it.
    pub line: String,
}

/// What the tool of `backend` lists of nfc's rules for `family`.
///
/// # Errors
///
/// [`Refusal`] when the tool is missing or refuses.
pub fn read(
    backend: &dyn AnyBackend,
    family: Family,
    kernel: &mut dyn Apply,
) -> Result<Listing, Refusal> {
    let answers = kernel.ask(&backend.listing(family))?;
    let text = |Answer(bytes): &Answer| String::from_utf8_lossy(bytes).into_owned();
    Ok(Listing::parse(&answers.iter().map(text).collect::<String>()).only(family))
}

/// A listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// What is in it, by a name like `chain prerouting`, `map services`, `nat KUBE-SERVICES`
    /// or `virtual servers`.
    pub places: BTreeMap<String, Place>,
}

/// A chain or a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How it is declared, and then its rules or elements.
    pub lines: Vec<String>,
    /// Whether the order of lines means something: it is a chain.
    pub is_ordered: bool,
    /// How many elements it has that a program put there.
    pub elements: usize,
    /// How many elements it has that packets added, and that go in time.
    pub learnt: usize,
    /// How many elements it has room for.
    pub size: Option<usize>,
}

/// Chains of iptables that are named after a Service or an endpoint, so that one too many is
/// a difference. Others that begin with `KUBE-` may be kubelet's.
const HASHED: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];

/// The place of virtual and real servers.
pub const SERVERS: &str = "virtual servers";

/// The place of real servers of weight 0, which no manifest asks for: they are left until
/// their connections are over, and that is no difference.
pub const DRAINING: &str = "draining real servers";

impl Listing {
    /// Cuts the output of `nft list table`, `iptables-save` or `ipvsadm --save` into pieces.
    /// Of iptables only what is kube-proxy's or nfc's by name counts.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut listing = Self::default();
        let mut legacy_table = None;
        let mut nft = NftReader::default();
        for line in text.lines() {
            if let Some(table) = line.strip_prefix('*') {
                legacy_table = Some(table);
            } else if line == "COMMIT" {
                legacy_table = None;
            } else if let Some(table) = legacy_table {
                listing.read_legacy(table, line);
            } else if line.starts_with("-a ") && line.trim_end().ends_with(" -w 0") {
                listing.add(DRAINING, line, false);
            } else if line.starts_with("-A ") || line.starts_with("-a ") {
                listing.add(SERVERS, line, false);
            } else {
                nft.read(line, &mut listing);
            }
        }
        listing
    }

    /// Without virtual servers of the other family: ipvsadm lists those of both.
    fn only(mut self, family: Family) -> Self {
        let is_its_own = |line: &String| line.contains(" [") == (family == Family::Ipv6);
        self.places.retain(|name, place| {
            let is_of_both = name == SERVERS || name == DRAINING;
            if is_of_both {
                place.lines.retain(is_its_own);
            }
            !is_of_both || !place.lines.is_empty()
        });
        self
    }

    fn place(&mut self, name: &str) -> &mut Place {
        self.places.entry(name.to_owned()).or_default()
    }

    fn add(&mut self, place: &str, line: &str, is_ordered: bool) {
        let place = self.place(place);
        place.lines.push(line.trim().to_owned());
        place.is_ordered = is_ordered;
    }

    /// A line of `iptables-save`. Of built-in chains only jumps to ours are looked at, in
    /// whatever order others put theirs between them.
    fn read_legacy(&mut self, table: &str, line: &str) {
        let rule = line.strip_prefix('[').and_then(|l| l.split_once("] ")).map_or(line, |(_, r)| r);
        let Some((chain, text)) = rule.strip_prefix("-A ").and_then(|r| r.split_once(' ')) else {
            return;
        };
        let is_ours = chain.starts_with("KUBE-");
        if is_ours || text.contains("-j KUBE-") {
            self.add(&format!("{table} {chain}"), text, is_ours);
        }
    }

    /// What is here and not in `found`, and the other way round. Room in sets, counters and
    /// what packets added mean nothing.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut all = Vec::new();
        let nowhere = Place::default();
        for (name, wanted) in &self.places {
            wanted.differences(name, found.places.get(name).unwrap_or(&nowhere), &mut all);
        }
        let is_extra = |name: &&String| match name.split_once(' ') {
            Some((_, chain)) if chain.starts_with("KUBE-") => {
                HASHED.iter().any(|head| chain.starts_with(head))
            }
            _ => name.as_str() != DRAINING,
        };
        let extra = found.places.keys().filter(|name| !self.places.contains_key(*name));
        for name in extra.filter(is_extra) {
            nowhere.differences(name, &found.places[name], &mut all);
        }
        all
    }
}

impl Place {
    fn differences(&self, name: &str, found: &Self, all: &mut Vec<Difference>) {
        let before = all.len();
        let sides = [(false, self, found), (true, found, self)];
        for (is_there, own, other) in sides {
            let others: BTreeSet<_> = other.lines.iter().collect();
            let lines = own.lines.iter().filter(|line| !others.contains(line));
            all.extend(lines.map(|line| Difference {
                place: name.to_owned(),
                is_there,
                line: line.clone(),
            }));
        }
        let is_moved = self.is_ordered && self.lines != found.lines;
        if is_moved && all.len() == before {
            let line = "the same rules in another order".to_owned();
            all.push(Difference { place: name.to_owned(), is_there: true, line });
        }
    }
}

/// Reads what `nft list table` prints.
#[derive(Debug, Default)]
struct NftReader {
    place: Option<String>,
    in_elements: bool,
}

impl NftReader {
    fn read(&mut self, line: &str, listing: &mut Listing) {
        let line = line.trim();
        if self.in_elements {
            return self.elements(line, listing);
        }
        if let Some(head) = line.strip_suffix(" {") {
            if !head.starts_with("table ") {
                listing.place(head).is_ordered = head.starts_with("chain ");
                self.place = Some(head.to_owned());
            }
            return;
        }
        let Some(place) = &self.place else { return };
        if line == "}" {
            self.place = None;
        } else if let Some(elements) = line.strip_prefix("elements = {") {
            self.in_elements = true;
            self.elements(elements, listing);
        } else if let Some(size) = line.strip_prefix("size ") {
            // nft says what it took beside the size it was asked for: `size 64	# count 2`.
            let number = size.split_whitespace().next();
            listing.place(place).size = number.and_then(|number| number.parse().ok());
        } else if !line.is_empty() {
            listing.add(place, line, place.starts_with("chain "));
        }
    }

    /// Elements that packets added are none of the program's; they have a time to go.
    fn elements(&mut self, line: &str, listing: &mut Listing) {
        let (line, is_last) = line.strip_suffix('}').map_or((line, false), |line| (line, true));
        let place = self.place.clone().unwrap_or_default();
        for element in line.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            if element.contains(" expires ") {
                listing.place(&place).learnt += 1;
            } else {
                listing.place(&place).elements += 1;
                listing.add(&place, element, false);
            }
        }
        self.in_elements = !is_last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
table ip nfc {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		size 64
		elements = { 10.96.0.1 . tcp . 80 comment \"a/b\" : goto c-2,
			     10.96.0.2 . tcp . 80 comment \"a/c\" : goto c-1 }
	}

	chain postrouting {
		meta mark & 0x00004000 == 0x00004000 masquerade
		accept
	}
}
";

    fn told(wanted: &str, found: &str) -> Vec<String> {
        let differences = Listing::parse(wanted).differences(&Listing::parse(found));
        let sign = |d: &Difference| if d.is_there { '+' } else { '-' };
        differences.iter().map(|d| format!("{}: {} {}", d.place, sign(d), d.line)).collect()
    }

    #[test]
    fn an_element_that_changed_is_told_with_its_set() {
        let found = TABLE.replace("goto c-1", "drop").replace("size 64", "size 128");
        let expected = [
            "map services: - 10.96.0.2 . tcp . 80 comment \"a/c\" : goto c-1",
            "map services: + 10.96.0.2 . tcp . 80 comment \"a/c\" : drop",
        ];
        assert_eq!(told(TABLE, &found), expected);
        assert_eq!(told(TABLE, TABLE), Vec::<String>::new());
        let listing = Listing::parse(&found);
        let services = &listing.places["map services"];
        assert_eq!((services.elements, services.size), (2, Some(128)));
    }

    #[test]
    fn the_order_of_rules_counts_and_that_of_elements_does_not() {
        let rules = "\t\tmeta mark & 0x00004000 == 0x00004000 masquerade\n\t\taccept\n";
        let turned = "\t\taccept\n\t\tmeta mark & 0x00004000 == 0x00004000 masquerade\n";
        let found = TABLE.replace(rules, turned);
        assert_eq!(told(TABLE, &found), ["chain postrouting: + the same rules in another order"]);
        let elements = "10.96.0.2 . tcp . 80 comment \"a/c\" : goto c-1,\n 10.96.0.1 . tcp . 80 \
                        comment \"a/b\" : goto c-2 }";
        let start = TABLE.find("10.96.0.1").expect("an element");
        let end = TABLE.find(" }").expect("an end") + 2;
        let found = [&TABLE[..start], elements, &TABLE[end..]].concat();
        assert_eq!(told(TABLE, &found), Vec::<String>::new());
    }

    #[test]
    fn of_virtual_servers_only_those_of_the_family_count() {
        let saved = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n\
                     -A -t [fd00::1]:80 -s rr\n";
        let lines = |family| {
            let mut listing = Listing::parse(saved).only(family);
            listing.places.remove("virtual servers").map(|place| place.lines)
        };
        assert_eq!(lines(Family::Ipv4).map(|lines| lines.len()), Some(2));
        assert_eq!(lines(Family::Ipv6), Some(vec!["-A -t [fd00::1]:80 -s rr".to_owned()]));
        let listing = Listing::parse("-A -t 10.0.0.1:80 -s rr\n").only(Family::Ipv6);
        assert_eq!(listing, Listing::default());
    }

    #[test]
    fn real_servers_that_drain_are_no_difference() {
        let wanted = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n";
        let draining = format!("{wanted}-a -t 10.0.0.1:80 -r 10.1.0.2:80 -m -w 0\n");
        assert_eq!(told(wanted, &draining), Vec::<String>::new());
        let lines = |family| {
            let listing = Listing::parse(&draining).only(family);
            listing.places.get(DRAINING).map_or(0, |place| place.lines.len())
        };
        assert_eq!(Family::ALL.map(lines), [1, 0]);
        let stopped = wanted.replace("-w 1", "-w 0");
        let expected = ["virtual servers: - -a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1"];
        assert_eq!(told(wanted, &stopped), expected);
    }

    #[test]
    fn of_iptables_only_what_is_ours_counts() {
        let wanted = "*nat\n-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SVC-A -j KUBE-SEP-A\nCOMMIT\n";
        let found = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j DOCKER\n\
                     [7:420] -A PREROUTING -j KUBE-SERVICES\n-A KUBE-SVC-A -j KUBE-SEP-B\n\
                     -A KUBE-SVC-B -j DROP\n-A KUBE-MARK-DROP -j MARK\nCOMMIT\n";
        let expected = [
            "nat KUBE-SVC-A: - -j KUBE-SEP-A",
            "nat KUBE-SVC-A: + -j KUBE-SEP-B",
            "nat KUBE-SVC-B: + -j DROP",
        ];
        assert_eq!(told(wanted, found), expected);
    }
}
