//! What is to be measured of updates, as data: read from TOML, with the command line on top.
//!
//! Invariant: knows no backend but by its name, and nothing of the kernel.

use crate::scenario::{Overrides, ScenarioError, Scope, distinct, in_range, read};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What is to be measured of updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateScenario {
    /// Which kind of scenario this is.
    pub study: Kind,
    /// What every scenario says; the numbers of Services ascend.
    #[serde(flatten)]
    pub scope: Scope,
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
    /// In how many rounds nfc's own backends load manifests too.
    #[serde(default)]
    pub manifest_rounds: u32,
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
const SPEED: &str = include_str!("../../scenarios/speed.toml");

impl UpdateScenario {
    /// The scenario `update`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn update() -> Result<Self, ScenarioError> {
        Self::from_toml(UPDATE)
    }

    /// The scenario `speed`.
    ///
    /// # Errors
    ///
    /// None, as a test makes sure.
    pub fn speed() -> Result<Self, ScenarioError> {
        Self::from_toml(SPEED)
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

    /// The scenario with what `overrides` say. Packets are sent during the updates of those
    /// backends that are still named, among no more Services than the largest size has.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`] when it cannot be run so.
    pub fn with(self, overrides: Overrides) -> Result<Self, ScenarioError> {
        let scope = self.scope.with(overrides);
        let most = scope.services.iter().max().copied().unwrap_or(1);
        let disruption = self.disruption.map(|d| Disruption {
            services: d.services.min(most),
            backends: d.backends.into_iter().filter(|b| scope.backends.contains(b)).collect(),
            rounds: d.rounds.min(scope.rounds),
            ..d
        });
        let disruption = disruption.filter(|d| !d.backends.is_empty());
        Self { scope, disruption, ..self }.checked()
    }

    /// The longest that a load may take.
    #[must_use]
    pub fn cap(&self) -> Duration {
        Duration::from_secs(self.cap_seconds.into())
    }

    fn checked(mut self) -> Result<Self, ScenarioError> {
        // A Service without endpoints is another thing, and one Service less would be none.
        self.scope.check(2)?;
        in_range("cap_seconds", self.cap_seconds, 1, 3_600)?;
        in_range("slow_rounds", self.slow_rounds, 1, 1_000)?;
        self.scope.services.sort_unstable();
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
    fn the_scenarios_that_come_along_survive_being_written() {
        for scenario in [update(), UpdateScenario::speed().expect("it comes along too")] {
            assert!(scenario.scope.services.is_sorted());
            assert_eq!(UpdateScenario::from_toml(&scenario.to_toml()), Ok(scenario));
        }
    }

    #[test]
    fn everybody_it_names_is_there() {
        let disruption = update().disruption.expect("packets are sent");
        for name in update().scope.backends.iter().chain(&disruption.backends) {
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
        assert_eq!(scenario.scope.services, [50, 500]);
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
