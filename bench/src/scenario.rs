//! What is to be measured, as data: read from TOML, with the command line on top.
//!
//! Two scenarios come with the program: `default`, and `quick`, which takes seconds and
//! whose figures are for a first look only.
//!
//! Invariant: knows no backend but by its name, and nothing of the kernel.

use nfc_ir::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line for people.
    pub about: String,
    /// How many Services there are: one cell for each number.
    pub services: Vec<u32>,
    /// How many endpoints each Service has.
    pub endpoints: u32,
    /// Who is measured: names of backends, `none` for the baseline, and `kube-proxy-1.36` for
    /// the ruleset of that release (1.33, 1.36 and 1.37 are known).
    pub backends: Vec<String>,
    /// Protocol of the packets and of the Services.
    pub protocol: Transport,
    /// How often each cell is measured, each time in fresh namespaces with a fresh load.
    pub rounds: u32,
    /// Packets that are sent before those that count, in each block of packets.
    pub warm_up: u32,
    /// First packets to Services chosen uniformly, in each round.
    pub first_packets: u32,
    /// First packets to each of the first, the middle and the last Service, in each round.
    pub position_packets: u32,
    /// Packets to addresses that are no Service's, in each round.
    pub miss_packets: u32,
    /// Later packets of connections, in each round.
    pub established_packets: u32,
    /// Endpoints added one by one, in each round.
    pub updates: u32,
    /// From which order, targets and intervals follow.
    pub seed: u64,
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
    /// Instead of [`Scenario::services`].
    pub services: Option<Vec<u32>>,
    /// Instead of [`Scenario::endpoints`].
    pub endpoints: Option<u32>,
    /// Instead of [`Scenario::backends`].
    pub backends: Option<Vec<String>>,
    /// Instead of [`Scenario::protocol`].
    pub protocol: Option<Transport>,
    /// Instead of [`Scenario::rounds`].
    pub rounds: Option<u32>,
    /// Instead of [`Scenario::seed`].
    pub seed: Option<u64>,
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

    /// Reads and checks a scenario.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`], with the place in the text.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let format = |e: toml::de::Error| ScenarioError::Format(e.to_string());
        toml::from_str::<Self>(text).map_err(format)?.checked()
    }

    /// The scenario as TOML, which [`from_toml`](Self::from_toml) reads back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// The scenario with what `overrides` say.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] when it cannot be run so.
    pub fn with(self, overrides: Overrides) -> Result<Self, ScenarioError> {
        Self {
            services: overrides.services.unwrap_or(self.services),
            endpoints: overrides.endpoints.unwrap_or(self.endpoints),
            backends: overrides.backends.unwrap_or(self.backends),
            protocol: overrides.protocol.unwrap_or(self.protocol),
            rounds: overrides.rounds.unwrap_or(self.rounds),
            seed: overrides.seed.unwrap_or(self.seed),
            ..self
        }
        .checked()
    }

    fn checked(self) -> Result<Self, ScenarioError> {
        in_range("endpoints", self.endpoints, 1, 1_000)?;
        in_range("rounds", self.rounds, 1, 1_000)?;
        in_range("updates", self.updates, 1, 1_000)?;
        let block = |packets: u32| packets.saturating_add(self.warm_up);
        in_range("first_packets", self.first_packets, 1, PACKETS_MAX)?;
        in_range("position_packets", self.position_packets, 1, PACKETS_MAX)?;
        in_range("miss_packets", self.miss_packets, 1, PACKETS_MAX)?;
        in_range("first_packets and warm_up", block(self.first_packets), 1, PACKETS_MAX)?;
        in_range("established_packets", self.established_packets, 1, 1_000_000)?;
        for services in &self.services {
            in_range("services", *services, 1, 1_000_000)?;
        }
        distinct("services", &self.services)?;
        distinct("backends", &self.backends)?;
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
        assert_eq!(default.services, [1, 10, 100, 1_000, 10_000]);
        assert!(default.rounds >= 10, "too few rounds for an interval");
        assert!(quick().rounds < default.rounds);
        assert_eq!(quick().services, [1, 10, 100, 1_000]);
    }

    #[test]
    fn a_scenario_survives_being_written() {
        let again = Scenario::from_toml(&quick().to_toml());
        assert_eq!(again, Ok(quick()));
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
        assert_eq!((scenario.services, scenario.seed), (vec![5, 50], 9));
        assert_eq!(scenario.endpoints, quick().endpoints);
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
        let error = Scenario::from_toml(&(quick().to_toml() + "sevices = 3\n")).expect_err("no");
        assert!(error.to_string().contains("sevices"), "{error}");
    }
}
