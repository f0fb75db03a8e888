//! Random events of the model test.

use std::time::Duration;

use proptest::prelude::*;

use super::fake::NO_MODEL;
use crate::loader::VersionKey;

#[derive(Debug, Clone)]
pub(super) enum Op {
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

pub(super) fn op() -> impl Strategy<Value = Op> {
    let result =
        prop_oneof![4 => Just(LoadResult::Success), 2 => Just(LoadResult::Passing), 1 => Just(LoadResult::Lasting)];
    let times = [10, 1_000, 1_500, 6_000, 21_000, 70_000, 400_000].map(Duration::from_millis).to_vec();
    prop_oneof![
        8 => (key(), 0..=NO_MODEL, 0..2u8).prop_map(|(key, file, weights)| Op::PutFiles(key, file, weights)),
        2 => key().prop_map(Op::RemoveFiles),
        1 => name().prop_map(Op::RemoveModel),
        2 => (name(), any::<bool>()).prop_map(|(name, has_problem)| Op::SetProblem(name, has_problem)),
        1 => (key(), any::<bool>()).prop_map(|(key, is_incomplete)| Op::SetIncomplete(key, is_incomplete)),
        1 => (name(), any::<bool>()).prop_map(|(name, is_latest)| Op::SetLatest(name, is_latest)),
        16 => Just(Op::Scan),
        3 => key().prop_map(Op::Load),
        1 => name().prop_map(Op::LoadAll),
        2 => key().prop_map(Op::Unload),
        3 => key().prop_map(Op::Reload),
        2 => key().prop_map(Op::SetStable),
        14 => (any::<usize>(), result).prop_map(|(index, result)| Op::LoadEnds(index, result)),
        1 => any::<usize>().prop_map(Op::LoadSticks),
        4 => (key(), prop::bool::weighted(0.1)).prop_map(|(key, is_final)| Op::Lose(key, is_final)),
        2 => key().prop_map(Op::LoseOften),
        2 => key().prop_map(Op::HoldRequest),
        1 => Just(Op::EndRequests),
        3 => Just(Op::FreeIdle),
        10 => prop::sample::select(times).prop_map(Op::Wait),
    ]
}
