//! The run or load that a thread is in: where the memory comes from that ONNX Runtime asks for meanwhile.

use std::{
    cell::Cell,
    ffi::c_void,
    ptr::{self, NonNull},
    sync::Arc,
};

use super::{
    block,
    pool::{Pool, free},
    refusal::AllocationRefusal,
};

thread_local! {
    static CURRENT: Cell<*const Scope<'static>> = const { Cell::new(ptr::null()) };
    /// Why the last run or load of this thread got no memory.
    static REFUSAL: Cell<Option<AllocationRefusal>> = const { Cell::new(None) };
}

/// A run or a load. It holds what it has not freed yet; answers outlive it.
struct Scope<'a> {
    pool: &'a Arc<Pool>,
    used: Cell<usize>,
    limit: usize,
    zeroed: bool,
}

/// Does `work`, with the memory that ONNX Runtime asks for on this thread coming from `pool`. With `zeroed` nothing that another
/// run has written is left in it.
pub(in crate::engine) fn within<T>(pool: &Arc<Pool>, zeroed: bool, work: impl FnOnce() -> T) -> T {
    let account = pool.account();
    enter(pool, account.run_limit(), zeroed || account.is_zeroed(), work)
}

/// The same for a load: what it takes has no limit of its own.
pub(in crate::engine) fn within_load<T>(pool: &Arc<Pool>, work: impl FnOnce() -> T) -> T {
    enter(pool, usize::MAX, false, work)
}

fn enter<T>(pool: &Arc<Pool>, limit: usize, zeroed: bool, work: impl FnOnce() -> T) -> T {
    let scope = Scope { pool, used: Cell::new(0), limit, zeroed };
    REFUSAL.set(None);
    let _reset = Reset(CURRENT.replace((&raw const scope).cast()));
    work()
}

/// Puts the scope from before back.
struct Reset(*const Scope<'static>);

impl Drop for Reset {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Why the last run or load of this thread got no memory, if that is so and nobody has asked before.
pub(in crate::engine) fn take_refusal() -> Option<AllocationRefusal> {
    REFUSAL.take()
}

/// The error of a run whose inputs got no memory: [`take_refusal`] knows the reason.
pub(in crate::engine) fn refused(refusal: AllocationRefusal) -> ort::Error {
    REFUSAL.set(Some(refusal));
    ort::Error::new(refusal.reason())
}

/// The scope of this thread.
#[allow(unsafe_code, reason = "reads the scope through a pointer")]
fn current<T>(work: impl FnOnce(Option<&Scope<'_>>) -> T) -> T {
    // SAFETY: a scope that is current lies in a frame of this thread that has not ended: `Reset` goes before the scope.
    work(unsafe { CURRENT.get().as_ref() })
}

/// Memory for ONNX Runtime; `None` where the limit of the run or the process is reached. Outside of runs and loads, as on threads
/// that ONNX Runtime starts, it comes from `other`.
pub(super) fn allocate(length: usize, other: &Arc<Pool>, is_limited: bool) -> Option<NonNull<c_void>> {
    current(|scope| {
        let Some(scope) = scope else {
            return other.allocate(length, false).ok().map(|(memory, _)| memory.cast());
        };
        let used = scope.used.get();
        let allocated = match block::block_size(length) {
            Some(bytes) if bytes > scope.limit.saturating_sub(used) && is_limited => {
                Err(AllocationRefusal::Run { asked: length, held: used, limit: scope.limit })
            }
            _ => scope.pool.allocate(length, scope.zeroed),
        };
        match allocated {
            Ok((memory, bytes)) => {
                scope.used.set(used + bytes);
                Some(memory.cast())
            }
            Err(refusal) => {
                REFUSAL.set(Some(refusal));
                None
            }
        }
    })
}

/// Takes memory back from ONNX Runtime.
///
/// # Safety
/// The memory came from [`allocate`], and nothing uses it any more.
#[allow(unsafe_code, reason = "that nothing uses the memory is the caller's promise")]
pub(super) unsafe fn give_back(memory: NonNull<c_void>) {
    // SAFETY: promised by the caller.
    let (pool, bytes) = unsafe { free(memory.cast()) };
    current(|scope| {
        if let Some(scope) = scope
            && Arc::as_ptr(scope.pool) == pool
        {
            // Memory of an earlier run may be freed in this one.
            scope.used.set(scope.used.get().saturating_sub(bytes));
        }
    });
}
