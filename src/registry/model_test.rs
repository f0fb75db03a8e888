//! A model test of the registry without its thread: random scans, admin calls, results of loads, losses and steps of the clock, with
//! the actions of the reconciler carried out on a fake, against a simple reference.

mod fake;
mod op;
mod reference;
mod run;
mod world;

use proptest::prelude::*;

use super::room::MemoryLimit;
use crate::config::{ByteSize, ModelControl};
use fake::FILE_BYTES;
use op::{LoadResult, Operation, op};
use world::World;

fn control() -> impl Strategy<Value = ModelControl> {
    prop_oneof![4 => Just(ModelControl::Poll), 1 => Just(ModelControl::Explicit), 1 => Just(ModelControl::None)]
}

fn memory() -> impl Strategy<Value = Option<MemoryLimit>> {
    let limit = (1..6usize, any::<bool>()).prop_map(|(versions, unload_first)| MemoryLimit {
        bytes: ByteSize(versions * 2 * FILE_BYTES as usize),
        unload_first,
    });
    prop::option::weighted(0.3, limit)
}

proptest! {
    #[test]
    fn registry_reaches_the_desired_state_without_loss(
        control in control(),
        memory in memory(),
        before in prop::collection::vec(op(), 0..20),
        ops in prop::collection::vec(op(), 0..80),
        stops in prop::bool::weighted(0.1),
    ) {
        let mut world = World::new(control, memory);
        for op in before {
            world.change_files(op);
        }
        world.start()?;
        for op in ops {
            world.apply(op)?;
        }
        if stops {
            world.apply(Operation::Stop)?;
        }
        world.come_to_rest()?;
    }
}

/// Carries out events in this order, and lets the world come to rest.
fn carry_out(before: Vec<Operation>, ops: Vec<Operation>) {
    let mut world = World::new(ModelControl::Poll, None);
    before.into_iter().for_each(|op| world.change_files(op));
    world.start().unwrap();
    for op in ops {
        world.apply(op).unwrap();
    }
    world.come_to_rest().unwrap();
}

#[test]
fn reload_that_waits_outlives_a_problem_of_its_folder() {
    let key = |name: &str| (name.to_owned(), 1);
    let scans = || [Operation::Scan, Operation::Scan];
    let mut ops = vec![Operation::LoadEnds(0, LoadResult::Success), Operation::PutFiles(key("a"), 0, 0)];
    ops.extend(scans());
    // The load of the other model goes on.
    ops.push(Operation::Reload(key("b")));
    ops.extend(scans());
    ops.push(Operation::SetProblem("b".into(), true));
    ops.extend(scans());
    ops.push(Operation::SetProblem("b".into(), false));
    ops.extend(scans());
    carry_out(vec![Operation::PutFiles(key("b"), 0, 0)], ops);
}
