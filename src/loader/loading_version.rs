//! The version that a thread loads, under whose name a crash is recorded.

use std::cell::RefCell;

thread_local! {
    /// The version that this thread loads.
    static LOADED: RefCell<(String, u64)> = const { RefCell::new((String::new(), 0)) };
}

/// Notes the version that this thread loads.
pub(super) fn begin_load(model: &str, version: u64) {
    LOADED.set((model.to_owned(), version));
}

/// The version that this thread loads.
pub(super) fn version_in_load() -> (String, u64) {
    LOADED.with_borrow(Clone::clone)
}
