//! Models on which two scans in a row agree: pure.

use std::collections::BTreeMap;

use crate::repository::RepositoryModel;

/// Problem of a model whose folder went while it serves.
pub(super) const FOLDER_GONE: &str =
    "the repository does not hold it any more; it is served until it is unloaded by an admin call";

/// The models to act on: of each, its state in the last two scans where they agree, else the state that was acted on before. Files
/// that are being written, and folders between removal and return, are so left alone until they rest. A model with a problem keeps
/// the settings that it had: those that can't be read would be the defaults, which could send its requests to another version.
/// A model that has gone is kept where it `stays`: a folder is removed too easily.
pub(super) fn settle(
    acted_on: &BTreeMap<String, RepositoryModel>,
    previous: &BTreeMap<String, RepositoryModel>,
    current: &BTreeMap<String, RepositoryModel>,
    stays: impl Fn(&str) -> bool,
) -> BTreeMap<String, RepositoryModel> {
    let names = acted_on.keys().chain(current.keys());
    let settled = |name: &String| {
        let (before, previous, current) = (acted_on.get(name), previous.get(name), current.get(name));
        let gone = || {
            before
                .filter(|_| stays(name))
                .map(|_| RepositoryModel { problem: Some(FOLDER_GONE.into()), ..RepositoryModel::default() })
        };
        let mut chosen = if previous == current { current.cloned().or_else(gone) } else { before.cloned() }?;
        if let (Some(_), Some(before)) = (&chosen.problem, before) {
            chosen.config = before.config.clone();
        }
        Some((name.clone(), chosen))
    };
    names.filter_map(settled).collect()
}

/// Models from `now` where they are named so, else from `before`.
pub(super) fn only(
    before: &BTreeMap<String, RepositoryModel>,
    now: BTreeMap<String, RepositoryModel>,
    is_named: impl Fn(&str) -> bool,
) -> BTreeMap<String, RepositoryModel> {
    let kept = before.iter().filter(|(name, _)| !is_named(name)).map(|(name, model)| (name.clone(), model.clone()));
    kept.chain(now.into_iter().filter(|(name, _)| is_named(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::files::{ModelPath, Roots},
        repository::Source,
    };
    use proptest::prelude::*;

    /// A model whose state is a number; the folder that a fingerprint is taken of does not matter here.
    fn model(state: u8, problem: bool) -> RepositoryModel {
        let path = ModelPath::new(format!("{state}.onnx").into(), Roots::default());
        let source = Source { path, ..Source::default() };
        let problem = problem.then(|| "unreadable".to_owned());
        RepositoryModel { versions: BTreeMap::from([(1, source)]), problem, ..RepositoryModel::default() }
    }

    fn models() -> impl Strategy<Value = BTreeMap<String, RepositoryModel>> {
        let entry = ("[abc]", (0..3u8, prop::bool::weighted(0.2)).prop_map(|(state, problem)| model(state, problem)));
        prop::collection::btree_map(entry.0, entry.1, 0..4)
    }

    proptest! {
        #[test]
        fn settled_models_change_only_where_two_scans_agree(acted_on in models(), previous in models(), current in models()) {
            let settled = settle(&acted_on, &previous, &current, |_| false);
            let kept = settle(&acted_on, &previous, &current, |_| true);
            for name in ["a", "b", "c"] {
                let agreed = previous.get(name) == current.get(name);
                let expected = if agreed { current.get(name) } else { acted_on.get(name) };
                prop_assert_eq!(settled.get(name), expected);
                let is_gone = expected.is_none() && acted_on.contains_key(name);
                if is_gone {
                    prop_assert!(kept[name].problem.as_ref().unwrap().contains("does not hold it any more"));
                } else {
                    prop_assert_eq!(kept.get(name), expected);
                }
            }
        }
    }
}
