//! Bounds of what is kept of a model's changes.

/// Changes that are kept of a model, steps that rollbacks can go back, and versions without files for which the state keeps whether
/// they are loaded, at most each.
pub(super) const MAX_HISTORY: usize = 100;

/// Drops the oldest entries of a list beyond the bound.
pub(super) fn keep_last<T>(list: &mut Vec<T>) {
    list.drain(..list.len().saturating_sub(MAX_HISTORY));
}
