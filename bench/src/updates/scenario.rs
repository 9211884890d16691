//! What is to be measured of updates, as data: read from TOML, with the command line on top.
//!
//! Invariant: knows no backend but by its name, and nothing of the kernel.

use crate::scenario::{Overrides, ScenarioError, Transport, distinct, in_range};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is to be measured of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateScenario {
    /// Which kind of scenario this is.
    pub study: Kind,
    /// One line for people.
    pub about: String,
    /// How many Services there are, ascending: one cell for each number.
    pub services: Vec<u32>,
    /// How many endpoints each Service has.
    pub endpoints: u32,
    /// Who is measured: names of backends, such a name with `/text` for its text loaded by
    /// its own tool, and `kube-proxy-1.36` for the ruleset of that release.
    pub backends: Vec<String>,
    /// Protocol of the Services.
    pub protocol: Transport,
    /// How often each cell is measured, each time in fresh namespaces with a fresh load.
    pub rounds: u32,
    /// How often each small update is made in a round.
    pub updates: u32,
    /// After so many seconds an operation is not repeated again within a round.
    pub operation_seconds: u32,
    /// Whoever needs longer than this to load a size is not asked for larger ones.
    pub cap_seconds: u32,
    /// Loading longer than this is slow, and slow cells have fewer rounds.
    pub slow_seconds: u32,
    /// How many rounds slow cells have.
    pub slow_rounds: u32,
    /// In how many rounds the memory of a load is measured.
    pub memory_rounds: u32,
    /// From which order, targets and intervals follow.
    pub seed: u64,
    /// Packets while updates are made; without it there are none.
    pub disruption: Option<Disruption>,
}

/// The word that tells this kind of scenario from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// How long updates take.
    Updates,
}

/// Packets on a fixed schedule while updates are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disruption {
    /// How many Services there are.
    pub services: u32,
    /// Whose updates.
    pub backends: Vec<String>,
    /// How often, each time in fresh namespaces.
    pub rounds: u32,
    /// A packet is due every so many microseconds.
    pub packet_interval_us: u32,
    /// A single update is due every so many microseconds.
    pub update_interval_us: u32,
    /// How many single updates are made.
    pub updates: u32,
    /// After so many seconds no further one is begun.
    pub updates_seconds: u32,
    /// How often everything is replaced, a second apart.
    pub replaces: u32,
    /// A packet that arrives later after it was due than this is late, in microseconds.
    pub late_us: u32,
}

const UPDATE: &str = include_str!("../../scenarios/update.toml");

impl UpdateScenario {
    /// The scenario `update`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn update() -> Result<Self, ScenarioError> {
        Self::from_toml(UPDATE)
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

    /// The scenario with what `overrides` say. Packets are sent during the updates of those
    /// backends that are still named, among no more Services than the largest size has.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] when it cannot be run so.
    pub fn with(self, overrides: Overrides) -> Result<Self, ScenarioError> {
        let services = overrides.services.unwrap_or(self.services);
        let backends = overrides.backends.unwrap_or(self.backends);
        let rounds = overrides.rounds.unwrap_or(self.rounds);
        let most = services.iter().max().copied().unwrap_or(1);
        let disruption = self.disruption.map(|d| Disruption {
            services: d.services.min(most),
            backends: d.backends.into_iter().filter(|b| backends.contains(b)).collect(),
            rounds: d.rounds.min(rounds),
            ..d
        });
        Self {
            services,
            backends,
            rounds,
            endpoints: overrides.endpoints.unwrap_or(self.endpoints),
            protocol: overrides.protocol.unwrap_or(self.protocol),
            seed: overrides.seed.unwrap_or(self.seed),
            disruption: disruption.filter(|d| !d.backends.is_empty()),
            ..self
        }
        .checked()
    }

    /// The longest that a load may take.
    #[must_use]
    pub fn cap(&self) -> Duration {
        Duration::from_secs(self.cap_seconds.into())
    }

    fn checked(mut self) -> Result<Self, ScenarioError> {
        in_range("endpoints", self.endpoints, 2, 1_000)?;
        in_range("rounds", self.rounds, 1, 1_000)?;
        in_range("updates", self.updates, 1, 1_000)?;
        in_range("cap_seconds", self.cap_seconds, 1, 3_600)?;
        in_range("slow_rounds", self.slow_rounds, 1, 1_000)?;
        for services in &self.services {
            in_range("services", *services, 2, 1_000_000)?;
        }
        distinct("services", &self.services)?;
        distinct("backends", &self.backends)?;
        self.services.sort_unstable();
        if let Some(disruption) = &self.disruption {
            disruption.check()?;
        }
        Ok(self)
    }
}

impl Disruption {
    fn check(&self) -> Result<(), ScenarioError> {
        in_range("disruption.services", self.services, 2, 1_000_000)?;
        in_range("disruption.rounds", self.rounds, 1, 1_000)?;
        in_range("disruption.packet_interval_us", self.packet_interval_us, 50, 1_000_000)?;
        in_range("disruption.update_interval_us", self.update_interval_us, 1, 1_000_000)?;
        in_range("disruption.updates", self.updates, 1, 100_000)?;
        in_range("disruption.updates_seconds", self.updates_seconds, 1, 120)?;
        in_range("disruption.replaces", self.replaces, 1, 60)?;
        distinct("disruption.backends", &self.backends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update() -> UpdateScenario {
        UpdateScenario::update().expect("it comes with the program")
    }

    #[test]
    fn the_scenario_that_comes_along_survives_being_written() {
        assert_eq!(UpdateScenario::from_toml(&update().to_toml()), Ok(update()));
        assert!(update().services.is_sorted());
    }

    #[test]
    fn everybody_it_names_is_there() {
        let disruption = update().disruption.expect("packets are sent");
        for name in update().backends.iter().chain(&disruption.backends) {
            assert!(crate::contender::Contender::find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_command_line_wins_and_packets_follow() {
        let overrides = Overrides {
            services: Some(vec![500, 50]),
            backends: Some(vec!["nft".to_owned(), "nft/text".to_owned()]),
            ..Overrides::default()
        };
        let scenario = update().with(overrides).expect("fine");
        assert_eq!(scenario.services, [50, 500]);
        let disruption = scenario.disruption.expect("nft is still there");
        assert_eq!((disruption.services, disruption.backends), (500, vec!["nft".to_owned()]));
        let peers = Overrides {
            backends: Some(vec!["kube-proxy-1.36".to_owned()]),
            ..Overrides::default()
        };
        assert_eq!(update().with(peers).expect("fine").disruption, None);
    }

    #[test]
    fn one_endpoint_cannot_be_removed() {
        let overrides = Overrides { endpoints: Some(1), ..Overrides::default() };
        assert!(update().with(overrides).is_err(), "a Service without endpoints is another thing");
    }
}
