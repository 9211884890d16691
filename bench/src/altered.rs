//! What an operation does to the Services: which of them come, change or go.
//!
//! Invariant: pure; everything follows from the Ir, the operation and the dice; the work is
//! bounded by what is altered, so that nothing else is in the caches than in a node's controller.

use crate::metric::Operation;
use nfc_ir::synth::{self, Dice};
use nfc_ir::{Change, Endpoint, Flaw, Ir, Protocol, Service, ServiceMap, ServiceName};
use std::collections::BTreeSet;

/// Made-up endpoints that come later have numbers from here on, so that they are nobody's
/// yet: 10.128.0.1 and following.
const FRESH_ENDPOINT: u32 = 1 << 23;

/// One Service in so many changes in a churn.
const CHURN: usize = 100;

/// What whoever watches Services is told of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// It is this from now on; it may be new, or as it was.
    Put(Service),
    /// It is gone.
    Remove(ServiceName, Protocol),
}

impl Alteration {
    /// The Service in question.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        match self {
            Self::Put(service) => &service.name,
            Self::Remove(name, _) => name,
        }
    }

    /// Alters `services`, and tells what became of them.
    ///
    /// # Errors
    ///
    /// As [`ServiceMap::put`].
    pub fn carry_out(self, services: &mut ServiceMap) -> Result<Vec<Change>, Vec<Flaw>> {
        match self {
            Self::Put(service) => services.put(service),
            Self::Remove(name, protocol) => Ok(services.remove(&name, protocol)),
        }
    }
}

/// Chooses what changes, and never uses a made-up name or address twice.
#[derive(Clone, Debug)]
pub struct Alterer {
    dice: Dice,
    /// Those that fall when nothing changes: not every contender is told of that, and all have
    /// the same to come.
    idle: Dice,
    protocol: Protocol,
    endpoints: u32,
    next_service: u32,
    next_endpoint: u32,
}

impl Alterer {
    /// For `services` made-up Services with `endpoints` each.
    #[must_use]
    pub fn new(dice: Dice, protocol: Protocol, services: u32, endpoints: u32) -> Self {
        let (idle, next_endpoint) = (dice.clone(), FRESH_ENDPOINT);
        Self { dice, idle, protocol, endpoints, next_service: services, next_endpoint }
    }

    /// What `operation` alters about the Services of `ir`: one of them, one in a hundred for
    /// a churn, none when everything is looked at anyway. When nothing has changed, one is
    /// told again as it is.
    pub fn alterations(&mut self, operation: Operation, ir: &Ir) -> Vec<Alteration> {
        let count = ir.services().len();
        let one = match operation {
            Operation::ColdLoad
            | Operation::ReadBack
            | Operation::FullResync
            | Operation::FromJson
            | Operation::FromYaml => None,
            Operation::Churn => return self.churn(ir),
            Operation::ServiceAdded => Some(self.new_service(ir)),
            Operation::ServiceRemoved if count < 2 => None,
            Operation::ServiceRemoved => {
                let place = place(&mut self.dice, count);
                let gone = ir.services().get(place);
                gone.map(|s| Alteration::Remove(s.name.clone(), s.protocol))
            }
            Operation::NoOp => {
                let place = place(&mut self.idle, count);
                self.changed_at(place, operation, ir)
            }
            Operation::EndpointAdded | Operation::EndpointRemoved | Operation::EndpointSwapped => {
                let place = place(&mut self.dice, count);
                self.changed_at(place, operation, ir)
            }
        };
        one.into_iter().collect()
    }

    /// Replaces the first endpoint of the Service at `place`; `None` when there is none
    /// there.
    pub fn swapped_at(&mut self, place: usize, ir: &Ir) -> Option<Alteration> {
        self.changed_at(place, Operation::EndpointSwapped, ir)
    }

    fn churn(&mut self, ir: &Ir) -> Vec<Alteration> {
        let all = ir.services().len();
        let count = (all / CHURN).max(1).min(all);
        let mut places = BTreeSet::new();
        let mut alterations = Vec::new();
        while places.len() < count {
            let place = place(&mut self.dice, all);
            if places.insert(place) {
                alterations.extend(self.swapped_at(place, ir));
            }
        }
        alterations
    }

    fn new_service(&mut self, ir: &Ir) -> Alteration {
        let index = self.next_service;
        self.next_service += 1;
        Alteration::Put(synth::service(ir.family(), self.protocol, index, self.endpoints))
    }

    /// The Service at `place`, with other endpoints if `operation` says so.
    fn changed_at(&mut self, place: usize, operation: Operation, ir: &Ir) -> Option<Alteration> {
        let mut service = ir.services().get(place)?.clone();
        let endpoints = &mut service.endpoints;
        match operation {
            Operation::EndpointRemoved => drop(endpoints.pop()),
            Operation::EndpointAdded => endpoints.push(self.fresh(ir)),
            Operation::EndpointSwapped => {
                let fresh = self.fresh(ir);
                match endpoints.first_mut() {
                    Some(first) => *first = fresh,
                    None => endpoints.push(fresh),
                }
            }
            _ => {}
        }
        Some(Alteration::Put(service))
    }

    fn fresh(&mut self, ir: &Ir) -> Endpoint {
        let index = self.next_endpoint;
        self.next_endpoint += 1;
        Endpoint::ready(synth::endpoint(ir.family(), index))
    }
}

fn place(dice: &mut Dice, count: usize) -> usize {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    usize::try_from(dice.below(count)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nfc_ir::{Family, Node};

    /// What an operation does to 300 Services with 3 endpoints each.
    fn altered(operation: Operation) -> (Vec<Alteration>, Vec<Change>, Ir) {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 300, 3, Node::default());
        let mut services = ServiceMap::new(ir.expect("few Services"));
        let mut alterer = Alterer::new(Dice::new(4), Protocol::Udp, 300, 3);
        let alterations = alterer.alterations(operation, services.ir());
        let mut carry_out = |a: Alteration| a.carry_out(&mut services).expect("no flaw");
        let changes = alterations.iter().cloned().flat_map(&mut carry_out).collect();
        (alterations, changes, services.ir().clone())
    }

    fn endpoints(ir: &Ir) -> usize {
        ir.services().iter().map(|s| s.endpoints.len()).sum()
    }

    #[test]
    fn one_operation_changes_one_service() {
        let counts = [
            (Operation::NoOp, 0, 300, 900),
            (Operation::EndpointAdded, 1, 300, 901),
            (Operation::EndpointRemoved, 1, 300, 899),
            (Operation::EndpointSwapped, 1, 300, 900),
            (Operation::ServiceAdded, 1, 301, 903),
            (Operation::ServiceRemoved, 1, 299, 897),
        ];
        for (operation, changed, services, all) in counts {
            let (alterations, changes, ir) = altered(operation);
            assert_eq!((alterations.len(), changes.len()), (1, changed), "{operation:?}");
            assert_eq!((ir.services().len(), endpoints(&ir)), (services, all), "{operation:?}");
            let told = changes.iter().flat_map(|c| c.before.iter().chain(&c.after));
            assert!(told.into_iter().all(|s| s.name == *alterations[0].service()), "{operation:?}");
        }
    }

    #[test]
    fn a_churn_is_one_in_a_hundred() {
        let (alterations, changes, ir) = altered(Operation::Churn);
        assert_eq!((alterations.len(), changes.len(), endpoints(&ir)), (3, 3, 900));
    }

    /// Some contenders are not told that nothing has changed.
    #[test]
    fn what_comes_does_not_depend_on_what_changed_nothing() {
        let ir = synth::cluster_ips(Family::Ipv4, Protocol::Udp, 300, 3, Node::default());
        let ir = ir.expect("few Services");
        let after = |idle: u32| {
            let mut alterer = Alterer::new(Dice::new(4), Protocol::Udp, 300, 3);
            (0..idle).for_each(|_| drop(alterer.alterations(Operation::NoOp, &ir)));
            alterer.alterations(Operation::EndpointSwapped, &ir)
        };
        assert_eq!(after(0), after(6));
    }

    #[test]
    fn what_looks_at_everything_alters_nothing() {
        for operation in [Operation::ColdLoad, Operation::ReadBack, Operation::FullResync] {
            assert_eq!(altered(operation).0, [], "{operation:?}");
        }
    }
}
