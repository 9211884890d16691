//! Services that come, change and go one at a time.
//!
//! Invariant: what is done for a change is bounded by the change, not by how many Services
//! there are; and what comes of it is what [`Ir::new`] says of all of them.

use crate::check::{is_shared, retain_shared, sort_endpoints, strangers};
use crate::{Flaw, Frontend, FrontendKey, Ir, Protocol, Service, ServiceName, Shadowed};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;

/// What became of one Service: it came, it went, or it is another than before. Name and
/// protocol of the two are the same; one of them is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Service as it was; `None` when it is new.
    pub before: Option<Service>,
    /// The Service as it is now; `None` when it is gone.
    pub after: Option<Service>,
}

/// All Services of one address family for one node, which change one at a time: an [`Ir`] that
/// follows them (kube-proxy's `ServicePortMap`).
///
/// At any time [`ir`](Self::ir) is what [`Ir::new`] makes of all Services as they were put.
/// A change takes time that grows with the Service, with who else claims its addresses, and
/// with the logarithm of the number of Services. Only where a Service comes between others, or
/// goes from among them, those behind it are moved in memory, 200 bytes each: tenths of a
/// millisecond for 100,000, which is the price of [`Ir::services`] being a slice. Addresses
/// that were left out ([`Ir::shadowed`]) are moved likewise.
#[derive(Clone, Debug)]
pub struct ServiceMap {
    ir: Ir,
    /// All that Services want, also what they do not get.
    claims: BTreeSet<Claim>,
}

/// That a Service wants to answer at an address or node port. Of all who claim a key, the
/// first in order answers there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    key: FrontendKey,
    is_shared: bool,
    service: ServiceName,
    frontend: Frontend,
}

impl Claim {
    fn new(service: &ServiceName, frontend: Frontend, key: FrontendKey) -> Self {
        Self { key, is_shared: is_shared(frontend), service: service.clone(), frontend }
    }

    /// Not after any claim to `key`.
    fn least(key: FrontendKey) -> Self {
        let nobody =
            ServiceName { namespace: String::new(), name: String::new(), port: String::new() };
        Self::new(&nobody, Frontend::ClusterIp(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), key)
    }
}

fn claims(service: &Service) -> impl Iterator<Item = Claim> + '_ {
    service.frontends().map(|frontend| {
        let key = FrontendKey::of(frontend, service.protocol, service.port);
        Claim::new(&service.name, frontend, key)
    })
}

impl ServiceMap {
    /// Begins with the Services of `ir`, and with the addresses that were left out of it.
    #[must_use]
    pub fn new(ir: Ir) -> Self {
        let lost = ir.shadowed().iter().map(|s| Claim::new(&s.service, s.frontend, s.key));
        let claims = ir.services().iter().flat_map(claims).chain(lost).collect();
        Self { ir, claims }
    }

    /// The Services as they are.
    #[must_use]
    pub fn ir(&self) -> &Ir {
        &self.ir
    }

    /// Adds `service`, or replaces the one of the same name and protocol. Tells what became of
    /// it and of all who got or lost an address by it, sorted by name; nothing when it was put
    /// like that before.
    ///
    /// # Errors
    ///
    /// What [`Ir::new`] says of all Services; then nothing has changed.
    pub fn put(&mut self, service: Service) -> Result<Vec<Change>, Vec<Flaw>> {
        let mut service = service;
        sort_endpoints(&mut service);
        let flaws = self.flaws(&service);
        if !flaws.is_empty() {
            return Err(flaws);
        }
        let (name, protocol) = (service.name.clone(), service.protocol);
        Ok(self.change(&name, protocol, Some(service)))
    }

    /// Removes a Service. Tells that it went, and who got an address by it, sorted by name;
    /// nothing when it was not there.
    pub fn remove(&mut self, name: &ServiceName, protocol: Protocol) -> Vec<Change> {
        self.change(name, protocol, None)
    }

    fn flaws(&self, service: &Service) -> Vec<Flaw> {
        let mut conflicts = Vec::new();
        for claim in claims(service).filter(|c| !c.is_shared) {
            let owner = self.claims_to(claim.key).next();
            let other = owner.filter(|o| !o.is_shared && o.service != claim.service);
            conflicts.extend(other.map(|other| {
                let [by, later] = if *other < claim { [other, &claim] } else { [&claim, other] };
                (later.service.clone(), claim.key, by.service.clone())
            }));
        }
        conflicts.sort_by(|a, b| a.0.cmp(&b.0));
        let told = |(service, key, by)| Flaw::Conflict { service, key, by };
        strangers(self.ir.family(), service).chain(conflicts.into_iter().map(told)).collect()
    }

    /// Lets a Service be `after`, as it was put.
    fn change(
        &mut self,
        name: &ServiceName,
        protocol: Protocol,
        after: Option<Service>,
    ) -> Vec<Change> {
        let old: BTreeSet<Claim> = self.as_put(name, protocol).iter().flat_map(claims).collect();
        let new: BTreeSet<Claim> = after.iter().flat_map(claims).collect();
        let mut touched = BTreeSet::from([name.clone()]);
        for claim in old.difference(&new) {
            touched.extend(self.behind(claim));
            self.claims.remove(claim);
        }
        for claim in new.difference(&old) {
            self.claims.insert(claim.clone());
            touched.extend(self.behind(claim));
        }
        let mut after = after;
        let mut changes = Vec::new();
        for touched in &touched {
            // Who claims the same has the same protocol.
            let as_put =
                if touched == name { after.take() } else { self.as_put(touched, protocol) };
            changes.extend(self.settle(touched, protocol, as_put));
        }
        changes
    }

    /// Writes down what a Service that was put like this is among the others, whose claims are
    /// known.
    fn settle(
        &mut self,
        name: &ServiceName,
        protocol: Protocol,
        as_put: Option<Service>,
    ) -> Option<Change> {
        let mut after = as_put;
        let lost = after.as_mut().map_or_else(Vec::new, |service| self.without_lost(service));
        let shadowed = self.shadowed(name, protocol);
        self.ir.shadowed.splice(shadowed, lost);
        let place = self.place(name, protocol);
        let services = &mut self.ir.services;
        let before = match (place, &after) {
            (Ok(place), Some(after)) if services[place] == *after => return None,
            (Ok(place), Some(after)) => {
                Some(std::mem::replace(&mut services[place], after.clone()))
            }
            (Ok(place), None) => Some(services.remove(place)),
            (Err(place), Some(after)) => {
                services.insert(place, after.clone());
                None
            }
            (Err(_), None) => return None,
        };
        Some(Change { before, after })
    }

    /// Takes from `service` what others answer at, and tells what that was.
    fn without_lost(&self, service: &mut Service) -> Vec<Shadowed> {
        let name = service.name.clone();
        let mut lost = Vec::new();
        retain_shared(service, |frontend, key| {
            let own = |owner: &&Claim| (&owner.service, owner.frontend) == (&name, frontend);
            let by = self.claims_to(key).next().filter(|owner| !own(owner));
            lost.extend(by.map(|by| Shadowed {
                service: name.clone(),
                frontend,
                key,
                by: by.service.clone(),
            }));
            by.is_none()
        });
        lost
    }

    /// A Service as it was put: with what it claims and does not get.
    fn as_put(&self, name: &ServiceName, protocol: Protocol) -> Option<Service> {
        let place = self.place(name, protocol).ok()?;
        let mut service = self.ir.services[place].clone();
        for lost in &self.ir.shadowed[self.shadowed(name, protocol)] {
            match lost.frontend {
                Frontend::ExternalIp(ip) => service.external_ips.insert(ip),
                Frontend::LoadBalancerIp(ip) => service.load_balancer_ips.insert(ip),
                Frontend::ClusterIp(_) | Frontend::NodePort(_) => false,
            };
        }
        Some(service)
    }

    fn place(&self, name: &ServiceName, protocol: Protocol) -> Result<usize, usize> {
        let order = |s: &Service| (&s.name, s.protocol).cmp(&(name, protocol));
        self.ir.services.binary_search_by(order)
    }

    /// Where in [`Ir::shadowed`] the addresses are that a Service lost.
    fn shadowed(&self, name: &ServiceName, protocol: Protocol) -> Range<usize> {
        let all = &self.ir.shadowed;
        let order = |s: &Shadowed| (&s.service, s.key.protocol()).cmp(&(name, protocol));
        let start = all.partition_point(|s| order(s).is_lt());
        let count = all[start..].partition_point(|s| order(s).is_eq());
        start..start + count
    }

    /// All claims to `key`; the first one is the owner's.
    fn claims_to(&self, key: FrontendKey) -> impl Iterator<Item = &Claim> {
        self.claims.range(Claim::least(key)..).take_while(move |claim| claim.key == key)
    }

    /// Who does not answer at a key because of `claim`: nobody when it is not the owner's.
    fn behind(&self, claim: &Claim) -> Vec<ServiceName> {
        let mut all = self.claims_to(claim.key);
        if all.next() != Some(claim) {
            return Vec::new();
        }
        all.map(|claim| claim.service.clone()).collect()
    }
}
