//! The laws of a backend, on random Services and packets.

use nfc_backend::Backend;
use nfc_iptables::{Iptables, Program};
use nfc_ir::synth::{Dice, Sample, sample};
use nfc_ir::{Family, Ir, ProxyMode, eval};
use proptest::prelude::*;

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
}

fn program(seed: u64, family: Family) -> Program {
    Iptables.lower(&sample(seed, family).ir).program
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rules_do_what_services_mean(seed: u64, family in family()) {
        let Sample { ir, packets } = sample(seed, family);
        let program = Iptables.lower(&ir).program;
        for packet in &packets {
            let meant = eval(&ir, ProxyMode::Iptables, packet);
            let traced = Iptables.trace(&program, packet)?;
            prop_assert!(
                traced.agrees_with(&meant),
                "seed {seed} {family}: {packet}\n  rules: {traced}\n  means: {meant}\n{ir}{:?}",
                ir.node()
            );
        }
    }

    #[test]
    fn the_order_of_the_input_means_nothing(seed: u64, family in family()) {
        let ir = sample(seed, family).ir;
        let mut services = ir.services().to_vec();
        let mut dice = Dice::new(seed);
        dice.shuffle(&mut services);
        for service in &mut services {
            dice.shuffle(&mut service.endpoints);
        }
        let shuffled = Ir::new(family, ir.node().clone(), services).unwrap();
        prop_assert_eq!(Iptables.lower(&ir), Iptables.lower(&shuffled));
    }

    #[test]
    fn a_patch_leads_from_old_to_new(old: u64, new: u64, family in family()) {
        let [old, new] = [old, new].map(|seed| program(seed, family));
        let patch = Iptables.diff(&old, &new);
        prop_assert_eq!(Iptables.patched(&old, &patch), new.clone());
        let back = Iptables.diff(&new, &Iptables.empty(family));
        prop_assert_eq!(Iptables.patched(&new, &back), Iptables.empty(family));
    }

    #[test]
    fn nothing_leads_to_the_same(seed: u64, family in family()) {
        let program = program(seed, family);
        let patch = Iptables.diff(&program, &program);
        prop_assert!(Iptables.is_empty(&patch));
        prop_assert!(Iptables.encode(&patch).is_empty());
    }
}
