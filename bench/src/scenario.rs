//! What is to be measured, as data: read from TOML, with the command line on top.
//!
//! Three scenarios come with the program: `default`; `quick`, which takes seconds and whose
//! figures are for a first look only; and `guest`, for the guest that counts instructions.
//!
//! Invariant: knows no backend but by its name, and nothing of the kernel.

use crate::metric::Operation;
use nfc_ir::Protocol;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What every scenario says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// One line for people.
    pub about: String,
    /// How many Services there are: one cell for each number.
    pub services: Vec<u32>,
    /// How many endpoints each Service has.
    pub endpoints: u32,
    /// Who is measured: names of [contenders](crate::contender).
    pub backends: Vec<String>,
    /// Protocol of the packets and of the Services.
    pub protocol: Transport,
    /// How often each cell is measured, each time in fresh namespaces with a fresh load.
    pub rounds: u32,
    /// How often each small update is made, in each round.
    pub updates: u32,
    /// From which order, targets and intervals follow.
    pub seed: u64,
}

/// What is to be measured of packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// What every scenario says.
    #[serde(flatten)]
    pub scope: Scope,
    /// Packets that are sent before those that count, in each block of packets.
    pub warm_up: u32,
    /// First packets to Services chosen uniformly, in each round.
    pub first_packets: u32,
    /// First packets to each of the first, the middle and the last Service, from outside of
    /// the cluster, and to unknown ports, in each round.
    pub position_packets: u32,
    /// Packets to addresses that are no Service's, in each round.
    pub miss_packets: u32,
    /// Later packets of connections, in each round.
    pub established_packets: u32,
    /// Whole connections, in each round; only TCP has any.
    #[serde(default)]
    pub connections: u32,
    /// Which updates are made after the cold load, in this order.
    #[serde(default = "endpoint_added")]
    pub operations: Vec<Operation>,
    /// The most Services that somebody is asked for, by name; who is not named here is asked
    /// for all sizes.
    #[serde(default)]
    pub largest: BTreeMap<String, u32>,
    /// Where a first packet's cost comes from; without it that is not asked.
    pub anatomy: Option<Anatomy>,
}

/// Whose first packets are taken apart, and among how many Services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anatomy {
    /// How many Services there are; one of the scenario's numbers.
    pub services: u32,
    /// Names of contenders.
    pub backends: Vec<String>,
    /// How many packets are sent through each layer.
    pub packets: u32,
}

fn endpoint_added() -> Vec<Operation> {
    vec![Operation::EndpointAdded]
}

/// A transport protocol, as scenarios spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP datagrams: nobody has to answer the first packet.
    Udp,
    /// TCP SYNs.
    Tcp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Udp => Self::Udp,
            Transport::Tcp => Self::Tcp,
        }
    }
}

/// What the command line says differently.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Instead of [`Scope::services`].
    pub services: Option<Vec<u32>>,
    /// Instead of [`Scope::endpoints`].
    pub endpoints: Option<u32>,
    /// Instead of [`Scope::backends`].
    pub backends: Option<Vec<String>>,
    /// Instead of [`Scope::protocol`].
    pub protocol: Option<Transport>,
    /// Instead of [`Scope::rounds`].
    pub rounds: Option<u32>,
    /// Instead of [`Scope::seed`].
    pub seed: Option<u64>,
}

impl Scope {
    /// The scope with what `overrides` say.
    #[must_use]
    pub fn with(self, overrides: Overrides) -> Self {
        Self {
            services: overrides.services.unwrap_or(self.services),
            endpoints: overrides.endpoints.unwrap_or(self.endpoints),
            backends: overrides.backends.unwrap_or(self.backends),
            protocol: overrides.protocol.unwrap_or(self.protocol),
            rounds: overrides.rounds.unwrap_or(self.rounds),
            seed: overrides.seed.unwrap_or(self.seed),
            ..self
        }
    }

    /// Whether it can be run by a study that needs at least so many Services and endpoints.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`].
    pub fn check(&self, least: u32) -> Result<(), ScenarioError> {
        in_range("endpoints", self.endpoints, least, 1_000)?;
        in_range("rounds", self.rounds, 1, 1_000)?;
        in_range("updates", self.updates, 1, 1_000)?;
        for services in &self.services {
            in_range("services", *services, least, 1_000_000)?;
        }
        distinct("services", &self.services)?;
        distinct("backends", &self.backends)
    }
}

/// Reads the TOML of a scenario. The parts that scenarios share are read on their own, and
/// then a field that nobody reads is no error to serde; so it is looked for here.
pub(crate) fn read<T: Serialize + DeserializeOwned>(text: &str) -> Result<T, ScenarioError> {
    let format = |e: toml::de::Error| ScenarioError::Format(e.to_string());
    let scenario: T = toml::from_str(text).map_err(format)?;
    let given: toml::Table = toml::from_str(text).map_err(format)?;
    let understood = toml::Table::try_from(&scenario).unwrap_or_default();
    match given.keys().find(|field| !understood.contains_key(*field)) {
        Some(unknown) => Err(ScenarioError::Format(format!("unknown field `{unknown}`"))),
        None => Ok(scenario),
    }
}

/// Why a scenario cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// It is not the TOML of a scenario.
    #[error("not a scenario: {0}")]
    Format(String),
    /// A number of it is too small or too large.
    #[error("{field} is {value}, but has to be between {low} and {high}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The smallest that can be measured.
        low: u32,
        /// The largest that can be measured.
        high: u32,
    },
    /// A list of it is empty or names something twice.
    #[error("{0} has to name at least one, and none twice")]
    List(&'static str),
}

const DEFAULT: &str = include_str!("../scenarios/default.toml");
const QUICK: &str = include_str!("../scenarios/quick.toml");
const GUEST: &str = include_str!("../scenarios/guest.toml");
const GATE: &str = include_str!("../scenarios/gate.toml");

/// The kernel remembers every connection of a block; even small machines have room for so
/// many (`nf_conntrack_max`).
const PACKETS_MAX: u32 = 20_000;

impl Scenario {
    /// The scenario `default`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn default_one() -> Result<Self, ScenarioError> {
        Self::from_toml(DEFAULT)
    }

    /// The scenario `quick`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn quick() -> Result<Self, ScenarioError> {
        Self::from_toml(QUICK)
    }

    /// The scenario `guest`, for the instrument that counts instructions: one round, because
    /// the next would give the same figures, and few packets.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn guest() -> Result<Self, ScenarioError> {
        Self::from_toml(GUEST)
    }

    /// The scenario `gate`, of `scripts/bench-check`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn gate() -> Result<Self, ScenarioError> {
        Self::from_toml(GATE)
    }

    /// Reads and checks a scenario.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`], with the place in the text.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        read::<Self>(text)?.checked()
    }

    /// The scenario as TOML, which [`from_toml`](Self::from_toml) reads back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The scenario with what `overrides` say. First packets are taken apart only of those
    /// who are still measured at that size.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] when it cannot be run so.
    pub fn with(self, overrides: Overrides) -> Result<Self, ScenarioError> {
        let scope = self.scope.with(overrides);
        let anatomy = self.anatomy.map(|anatomy| Anatomy {
            backends: anatomy.backends.into_iter().filter(|b| scope.backends.contains(b)).collect(),
            ..anatomy
        });
        let anatomy = anatomy.filter(|a| !a.backends.is_empty());
        let anatomy = anatomy.filter(|a| scope.services.contains(&a.services));
        Self { scope, anatomy, ..self }.checked()
    }

    /// Whether the contender of this name is not asked for so many Services.
    #[must_use]
    pub fn is_too_large(&self, name: &str, services: u32) -> bool {
        self.largest.get(name).is_some_and(|largest| services > *largest)
    }

    fn checked(self) -> Result<Self, ScenarioError> {
        self.scope.check(1)?;
        let block = |packets: u32| packets.saturating_add(self.warm_up);
        in_range("first_packets", self.first_packets, 1, PACKETS_MAX)?;
        in_range("position_packets", self.position_packets, 1, PACKETS_MAX)?;
        in_range("miss_packets", self.miss_packets, 1, PACKETS_MAX)?;
        in_range("first_packets and warm_up", block(self.first_packets), 1, PACKETS_MAX)?;
        in_range("established_packets", self.established_packets, 1, 1_000_000)?;
        in_range("connections", self.connections, 0, PACKETS_MAX)?;
        if let Some(anatomy) = &self.anatomy {
            in_range("anatomy.packets", anatomy.packets, 1, PACKETS_MAX)?;
            distinct("anatomy.backends", &anatomy.backends)?;
        }
        Ok(self)
    }
}

pub(crate) fn in_range(
    field: &'static str,
    value: u32,
    low: u32,
    high: u32,
) -> Result<(), ScenarioError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(ScenarioError::Range { field, value, low, high })
}

pub(crate) fn distinct<T: Ord>(field: &'static str, items: &[T]) -> Result<(), ScenarioError> {
    let different: BTreeSet<&T> = items.iter().collect();
    if items.is_empty() || different.len() < items.len() {
        return Err(ScenarioError::List(field));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick() -> Scenario {
        Scenario::quick().expect("it comes with the program")
    }

    #[test]
    fn the_scenarios_that_come_along_can_be_run() {
        let default = Scenario::default_one().expect("it comes with the program");
        assert_eq!(default.scope.services, [1, 10, 100, 1_000, 10_000]);
        assert!(default.scope.rounds >= 10, "too few rounds for an interval");
        assert!(quick().scope.rounds < default.scope.rounds);
        assert_eq!(quick().scope.services, [1, 10, 100, 1_000]);
    }

    #[test]
    fn a_scenario_survives_being_written() {
        let others = [Scenario::guest(), Scenario::gate()].map(|s| s.expect("it comes along"));
        for scenario in [quick()].into_iter().chain(others) {
            assert_eq!(Scenario::from_toml(&scenario.to_toml()), Ok(scenario));
        }
    }

    #[test]
    fn the_command_line_wins() {
        let overrides = Overrides {
            services: Some(vec![5, 50]),
            backends: Some(vec!["nft".to_owned()]),
            seed: Some(9),
            ..Overrides::default()
        };
        let scenario = quick().with(overrides).expect("fine");
        assert_eq!((scenario.scope.services, scenario.scope.seed), (vec![5, 50], 9));
        assert_eq!(scenario.scope.endpoints, quick().scope.endpoints);
    }

    #[test]
    fn everybody_whom_the_guest_asks_is_there() {
        let guest = Scenario::guest().expect("it comes with the program");
        let anatomy = guest.anatomy.as_ref().expect("packets are taken apart");
        let named = anatomy.backends.iter().chain(guest.largest.keys());
        assert!(named.clone().all(|name| guest.scope.backends.contains(name)));
        for name in guest.scope.backends.iter().chain(named) {
            assert!(crate::contender::Contender::find(name).is_some(), "{name}");
        }
        assert!(guest.scope.services.contains(&anatomy.services));
        assert!(guest.is_too_large("kube-proxy-1.36", 30_000));
        assert!(!guest.is_too_large("nft", 30_000));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let refused = |overrides: Overrides| quick().with(overrides).expect_err("refused");
        let empty = Overrides { services: Some(vec![]), ..Overrides::default() };
        assert_eq!(refused(empty), ScenarioError::List("services"));
        let twice = Overrides {
            backends: Some(vec!["nft".to_owned(), "nft".to_owned()]),
            ..Overrides::default()
        };
        assert_eq!(refused(twice), ScenarioError::List("backends"));
        let none = Overrides { endpoints: Some(0), ..Overrides::default() };
        assert!(refused(none).to_string().contains("endpoints is 0"));
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let error = Scenario::from_toml(&("sevices = 3\n".to_owned() + &quick().to_toml()))
            .expect_err("no");
        assert!(error.to_string().contains("sevices"), "{error}");
    }
}
