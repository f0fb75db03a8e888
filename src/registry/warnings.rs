//! Warnings about effects of a change that may not have been meant: pure.

use super::status::{ModelStatus, VersionState};
use crate::{state::Change, traffic::STABLE};

/// For people, one each.
pub(super) fn warnings(change: &Change, before: Option<&ModelStatus>, now: &ModelStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    let name = &now.name;
    if let Change::Unload(_) | Change::ForceUnload(_) = change {
        let share = |status: &ModelStatus, number| {
            status.versions.iter().find(|version| version.version == number).map_or(0.0, |version| version.share)
        };
        let lost = before.into_iter().flat_map(|before| &before.versions);
        for version in lost.filter(|version| version.share > 0.0 && share(now, version.version) == 0.0) {
            let percent = version.share * 100.0;
            warnings.push(format!("version {} of '{name}' got {percent:.3} % of the requests", version.version));
        }
    }
    let may_come = matches!(change, Change::Load(_) | Change::Reload(_));
    if !may_come && now.versions.iter().all(|version| version.share == 0.0) {
        warnings.push(format!("no version of '{name}' that is ready gets requests that name none"));
    }
    for (number, weight) in now.traffic.weights.iter().filter(|(_, weight)| *weight > 0.0) {
        let state = now.versions.iter().find(|version| version.version == number).map(|version| version.state);
        match state {
            Some(VersionState::Ready) => {}
            Some(state) => warnings.push(format!(
                "version {number} of '{name}' is {} and has the weight {weight}, which counts for nothing now",
                state.label()
            )),
            None => warnings
                .push(format!("there is no version {number} of '{name}': its weight {weight} counts for nothing")),
        }
    }
    if let (Change::SetAlias { alias, .. }, false) = (change, now.traffic.weights.is_empty())
        && alias == STABLE
    {
        warnings.push(format!(
            "'{name}' has weights, which decide where requests go that name no version; `{STABLE}` is only a name"
        ));
    }
    warnings
}
