//! The laws of a backend, on random Services and packets.

use crate::names::sets;
use crate::{Ipvs, Program};
use nfc_backend::{Backend, Lowered};
use nfc_ir::synth::{Sample, sample};
use nfc_ir::{Family, Ir, Node, Packet, ProxyMode, Service, eval};
use nfc_ruleset::Table;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::collections::BTreeSet;

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

fn lower(ir: &Ir) -> Program {
    Ipvs.lower(ir).program
}

fn check_trace(ir: &Ir, program: &Program, packet: &Packet) -> Result<(), TestCaseError> {
    let meant = eval(ir, ProxyMode::Ipvs, packet);
    let traced = Ipvs.trace(program, packet);
    let traced = traced.map_err(|e| TestCaseError::fail(format!("{packet}: {e}")))?;
    prop_assert!(traced.agrees_with(&meant), "{packet}: meant {meant}, traced {traced}\n{ir}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_rules_do_what_services_mean(seed in any::<u64>(), family in families()) {
        let Sample { ir, packets } = sample(seed, family);
        let Lowered { program, unsupported } = Ipvs.lower(&ir);
        prop_assert!(unsupported.is_empty(), "{unsupported:?}");
        for packet in &packets {
            check_trace(&ir, &program, packet)?;
        }
    }

    #[test]
    fn the_order_of_services_and_endpoints_does_not_matter(
        seed in any::<u64>(),
        family in families(),
    ) {
        let ir = sample(seed, family).ir;
        let mut services: Vec<Service> = ir.services().to_vec();
        services.reverse();
        services.iter_mut().for_each(|s| s.endpoints.reverse());
        let again = Ir::new(family, ir.node().clone(), services);
        let again = again.map_err(|flaws| TestCaseError::fail(format!("{flaws:?}")))?;
        prop_assert_eq!(lower(&again), lower(&ir));
    }

    #[test]
    fn a_patch_leads_where_it_should(
        seeds in (any::<u64>(), any::<u64>()),
        family in families(),
    ) {
        let all = [
            Ipvs.empty(family),
            lower(&sample(seeds.0, family).ir),
            lower(&sample(seeds.1, family).ir),
        ];
        for old in &all {
            for new in &all {
                let patch = Ipvs.diff(old, new);
                prop_assert_eq!(&Ipvs.patched(old, &patch), new);
                prop_assert_eq!(Ipvs.is_empty(&patch), old == new);
                prop_assert_eq!(Ipvs.encode(&patch).is_empty(), old == new);
            }
        }
    }

    /// Between the programs stands a companion that has all of the new one, and of the old
    /// one what belongs to virtual servers that are still there.
    #[test]
    fn what_goes_keeps_its_rules_until_it_is_gone(
        seeds in (any::<u64>(), any::<u64>()),
        family in families(),
    ) {
        let old = lower(&sample(seeds.0, family).ir);
        let new = lower(&sample(seeds.1, family).ir);
        let patch = Ipvs.diff(&old, &new);
        let grown = nfc_ruleset::patched(old.companion.as_ref(), &patch.grow);
        let grown = grown.ok_or_else(|| TestCaseError::fail("a companion"))?;
        let keys = |table: &Table, set: &str| -> BTreeSet<Vec<u8>> {
            table.sets[set].elements.iter().map(|row| row.key.to_vec()).collect()
        };
        let (old, new) = (old.companion.unwrap(), new.companion.unwrap());
        let wanted = keys(&new, sets::VIRTUAL_SERVERS);
        for set in new.sets.keys() {
            let stays = |key: &Vec<u8>| match set.as_str() {
                sets::BOUND_ADDRESSES | sets::HAIRPINS | sets::HEALTH_CHECKS => true,
                _ => !wanted.iter().any(|server| key.starts_with(server)),
            };
            let mut expected = keys(&new, set);
            expected.extend(keys(&old, set).into_iter().filter(stays));
            prop_assert_eq!(keys(&grown, set), expected, "{}", set);
        }
    }

    #[test]
    fn without_node_addresses_a_node_port_is_unsupported_and_nothing_else_is(
        seed in any::<u64>(),
        family in families(),
    ) {
        let ir = sample(seed, family).ir;
        let node = Node { addresses: Vec::new(), ..ir.node().clone() };
        let ir = Ir::new(family, node, ir.services().to_vec());
        let ir = ir.map_err(|flaws| TestCaseError::fail(format!("{flaws:?}")))?;
        let expected: Vec<_> =
            ir.services().iter().filter(|s| s.node_port.is_some()).map(|s| &s.name).collect();
        let unsupported = Ipvs.lower(&ir).unsupported;
        prop_assert_eq!(unsupported.iter().map(|u| &u.service).collect::<Vec<_>>(), expected);
        prop_assert!(unsupported.is_sorted());
        prop_assert!(unsupported.iter().all(|u| u.reason.feature == "node port"));
    }
}
