//! The schedulers of IPVS, which a node in IPVS mode picks one of.
//!
//! Invariant: names and what they promise about weights; how connections are counted is
//! the kernel's.

use std::fmt;
use std::str::FromStr;

/// A scheduler of the kernel (`net/netfilter/ipvs/ip_vs_*.c`, ipvsadm(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum IpvsScheduler {
    /// `rr`: one after the other, whatever their weights. kube-proxy's default.
    #[default]
    RoundRobin,
    /// `wrr`: one after the other, in proportion to the weights.
    WeightedRoundRobin,
    /// `lc`: the one with the fewest connections.
    LeastConnection,
    /// `wlc`: the one with the fewest connections for its weight.
    WeightedLeastConnection,
    /// `lblc`: by destination, and when that one is overloaded, the least loaded.
    LocalityLeastConnection,
    /// `lblcr`: as `lblc`, with a set of servers for each destination.
    LocalityLeastConnectionReplicated,
    /// `sh`: by a hash of the source address.
    SourceHash,
    /// `dh`: by a hash of the destination address.
    DestinationHash,
    /// `sed`: the one with the shortest expected delay.
    ShortestDelay,
    /// `nq`: an idle one, or else as `sed`.
    NeverQueue,
    /// `fo`: the one with the highest weight that is up.
    Failover,
    /// `ovf`: the one with the highest weight until its connections reach it.
    Overflow,
    /// `mh`: by a hash of the source into a Maglev table.
    Maglev,
    /// `twos`: the less loaded of two picked at random.
    TwoChoices,
}

impl IpvsScheduler {
    /// All schedulers, in the order of the enum.
    pub const ALL: [Self; 14] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityLeastConnection,
        Self::LocalityLeastConnectionReplicated,
        Self::SourceHash,
        Self::DestinationHash,
        Self::ShortestDelay,
        Self::NeverQueue,
        Self::Failover,
        Self::Overflow,
        Self::Maglev,
        Self::TwoChoices,
    ];

    /// The kernel's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityLeastConnection => "lblc",
            Self::LocalityLeastConnectionReplicated => "lblcr",
            Self::SourceHash => "sh",
            Self::DestinationHash => "dh",
            Self::ShortestDelay => "sed",
            Self::NeverQueue => "nq",
            Self::Failover => "fo",
            Self::Overflow => "ovf",
            Self::Maglev => "mh",
            Self::TwoChoices => "twos",
        }
    }
}

impl fmt::Display for IpvsScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no scheduler of IPVS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a scheduler of IPVS; expected one of rr, wrr, lc, wlc, lblc, lblcr, sh, \
         dh, sed, nq, fo, ovf, mh, twos"
)]
pub struct UnknownScheduler {
    /// The word.
    pub name: String,
}

impl FromStr for IpvsScheduler {
    type Err = UnknownScheduler;

    fn from_str(name: &str) -> Result<Self, UnknownScheduler> {
        let named = Self::ALL.into_iter().find(|s| s.name() == name);
        named.ok_or_else(|| UnknownScheduler { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for scheduler in IpvsScheduler::ALL {
            assert_eq!(scheduler.name().parse(), Ok(scheduler));
        }
        let error = "rrr".parse::<IpvsScheduler>().expect_err("no such scheduler");
        let words = error.to_string();
        assert!(IpvsScheduler::ALL.iter().all(|s| words.contains(s.name())), "{words}");
    }
}
