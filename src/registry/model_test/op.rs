//! Random events of the model test.

use std::time::Duration;

use proptest::prelude::*;

use super::fake::NO_MODEL;
use crate::loader::VersionKey;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    PutFiles(VersionKey, u8, u8),
    RemoveFiles(VersionKey),
    RemoveModel(String),
    SetProblem(String, bool),
    SetIncomplete(VersionKey, bool),
    SetLatest(String, bool),
    Scan,
    Load(VersionKey),
    LoadAll(String),
    Unload(VersionKey),
    Reload(VersionKey),
    SetStable(VersionKey),
    LoadEnds(usize, LoadResult),
    LoadSticks(usize),
    Lose(VersionKey, bool),
    LoseOften(VersionKey),
    HoldRequest(VersionKey),
    EndRequests,
    FreeIdle,
    Wait(Duration),
    Stop,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum LoadResult {
    Success,
    Passing,
    Lasting,
}

fn key() -> impl Strategy<Value = VersionKey> {
    (prop::sample::select(vec!["a", "b"]), 1..4u64).prop_map(|(name, version)| (name.to_owned(), version))
}

fn name() -> impl Strategy<Value = String> {
    key().prop_map(|(name, _)| name)
}

pub(super) fn op() -> impl Strategy<Value = Operation> {
    let result =
        prop_oneof![4 => Just(LoadResult::Success), 2 => Just(LoadResult::Passing), 1 => Just(LoadResult::Lasting)];
    let times = [10, 1_000, 1_500, 6_000, 21_000, 70_000, 400_000].map(Duration::from_millis).to_vec();
    prop_oneof![
        8 => (key(), 0..=NO_MODEL, 0..2u8).prop_map(|(key, file, weights)| Operation::PutFiles(key, file, weights)),
        2 => key().prop_map(Operation::RemoveFiles),
        1 => name().prop_map(Operation::RemoveModel),
        2 => (name(), any::<bool>()).prop_map(|(name, has_problem)| Operation::SetProblem(name, has_problem)),
        1 => (key(), any::<bool>()).prop_map(|(key, is_incomplete)| Operation::SetIncomplete(key, is_incomplete)),
        1 => (name(), any::<bool>()).prop_map(|(name, is_latest)| Operation::SetLatest(name, is_latest)),
        16 => Just(Operation::Scan),
        3 => key().prop_map(Operation::Load),
        1 => name().prop_map(Operation::LoadAll),
        2 => key().prop_map(Operation::Unload),
        3 => key().prop_map(Operation::Reload),
        2 => key().prop_map(Operation::SetStable),
        14 => (any::<usize>(), result).prop_map(|(index, result)| Operation::LoadEnds(index, result)),
        1 => any::<usize>().prop_map(Operation::LoadSticks),
        4 => (key(), prop::bool::weighted(0.1)).prop_map(|(key, is_final)| Operation::Lose(key, is_final)),
        2 => key().prop_map(Operation::LoseOften),
        2 => key().prop_map(Operation::HoldRequest),
        1 => Just(Operation::EndRequests),
        3 => Just(Operation::FreeIdle),
        10 => prop::sample::select(times).prop_map(Operation::Wait),
    ]
}
