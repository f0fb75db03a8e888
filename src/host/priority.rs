//! Thread priorities for loads, which let them wait behind threads that serve, and the return of freed memory to the system.
//!
//! On Linux each thread has a nice value of its own, which threads that it starts inherit. Without a right (CAP_SYS_NICE, or
//! RLIMIT_NICE) the value can be raised and never lowered again. ONNX Runtime starts its threads for runs while a session is
//! made. These threads must not stay at the low priority of the load.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

/// Nice value of loads above the normal one. Measured: less starves runs, and more starves the load.
const NICER: i32 = 10;

/// Nice value above the normal one of threads that work for single large requests. Beside a busy thread that serves, such a
/// thread gets a fourth of the CPU.
const NICER_FOR_REQUESTS: i32 = 5;

const NICEST: i32 = 19;

/// Attempts to list the threads. If threads begin and end all the time, no two lists are the same.
const MAX_LISTINGS: usize = 8;

/// Time slice that a thread requests, in nanoseconds.
#[derive(Clone, Copy)]
enum Slice {
    /// The system's default.
    Usual = 0,
    /// The longest slice that the system allows.
    Longest = 100_000_000,
}

type HelperTask = Box<dyn FnOnce() + Send>;

/// Priorities that this process may set.
struct Priorities {
    normal: i32,
    low: i32,
    /// A thread at normal priority that makes sessions with threads of their own. It is needed where threads can't be restored to
    /// normal priority.
    helper: Option<Sender<HelperTask>>,
}

thread_local! {
    static IS_LOW: Cell<bool> = const { Cell::new(false) };
}

/// Threads whose loads go on at low priority.
static LOADS: Mutex<BTreeSet<libc::id_t>> = Mutex::new(BTreeSet::new());

fn priorities() -> &'static Priorities {
    static PRIORITIES: OnceLock<Priorities> = OnceLock::new();
    PRIORITIES.get_or_init(|| {
        let normal = nice(0).unwrap_or(0);
        let low = (normal + NICER).min(NICEST);
        let there_and_back = move || set_nice(0, low, Slice::Longest) && set_nice(0, normal, Slice::Usual);
        let can_restore = run_on_thread(there_and_back);
        if can_restore {
            tracing::debug!(nice = low, "loads run at low priority, with their sessions' threads until they serve");
            return Priorities { normal, low, helper: None };
        }
        tracing::debug!(
            nice = low,
            reason = "this process may not lower nice values",
            "loads run at low priority, except sessions with several threads"
        );
        let (helper, work) = mpsc::channel::<HelperTask>();
        let started =
            thread::Builder::new().name("sessions".into()).spawn(move || work.into_iter().for_each(|work| work()));
        // Without either, no thread gets a low priority.
        let low = if started.is_ok() { low } else { normal };
        Priorities { normal, low, helper: Some(helper) }
    })
}

/// Runs a check on a thread of its own. Returns its result; false if no thread can be started, or the check panics.
fn run_on_thread(check: impl FnOnce() -> bool + Send + 'static) -> bool {
    let thread = thread::Builder::new().name("priority".into()).spawn(check);
    thread.is_ok_and(|thread| thread.join().unwrap_or(false))
}

/// The nice values of threads that serve, and of loads.
pub(crate) fn nice_values() -> (i32, i32) {
    let Priorities { normal, low, .. } = *priorities();
    (normal, low)
}

/// Tests which priorities may be set, on a thread at normal priority.
pub(crate) fn prepare() {
    priorities();
}

/// Lowers this thread's priority, so that threads that serve go first, for the rest of its life.
pub(crate) fn lower_until_restored() {
    IS_LOW.set(set_nice(0, priorities().low, Slice::Longest));
    loads().insert(thread_id());
}

/// Lowers this thread's priority for the rest of its life, whatever `restore` restores. `restore` identifies its threads by their
/// nice value, and this one differs.
pub fn lower_for_good() {
    set_nice(0, (priorities().normal + NICER + 1).min(NICEST), Slice::Longest);
}

/// Lowers the priority of this thread, which works for single large requests, for the rest of its life. Threads that serve many
/// requests go first.
pub fn yield_to_small_requests() {
    set_nice(0, (priorities().normal + NICER_FOR_REQUESTS).min(NICEST), Slice::Longest);
}

/// Has this thread preempt no thread that serves; it keeps its share of the CPU.
pub fn use_long_slice() {
    set_nice(0, nice(0).unwrap_or(0), Slice::Longest);
}

/// Restores the normal priority of this thread, whose load has ended, and of the threads that it has started, if possible.
/// Threads of other loads that go on keep their low priority.
pub(crate) fn restore() {
    loads().remove(&thread_id());
    restore_but(&loads().clone());
}

/// Restores the normal priority of the threads of all loads.
pub(crate) fn restore_all() {
    restore_but(&BTreeSet::new());
}

fn restore_but(others: &BTreeSet<libc::id_t>) {
    let Priorities { normal, low, helper: None } = *priorities() else { return };
    if low == normal {
        return;
    }
    let mut before = BTreeSet::new();
    for _ in 0..MAX_LISTINGS {
        let threads = threads();
        for &id in threads.iter().filter(|id| !others.contains(id) && nice(**id) == Some(low)) {
            set_nice(id, normal, Slice::Usual);
        }
        if threads == before {
            return;
        }
        before = threads;
    }
}

fn loads() -> MutexGuard<'static, BTreeSet<libc::id_t>> {
    LOADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The system's number of this thread.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call")]
fn thread_id() -> libc::id_t {
    // SAFETY: the call takes nothing and gives a number.
    unsafe { libc::gettid() }.cast_unsigned()
}

#[cfg(not(target_os = "linux"))]
fn thread_id() -> libc::id_t {
    0
}

/// The threads of this process. If a thread ends while Linux lists them, the list may lack another. Only a list that equals the
/// one before is complete.
fn threads() -> BTreeSet<libc::id_t> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok()).collect()
}

/// Runs work that starts threads which stay. They end up at normal priority, whichever thread calls this.
pub(crate) fn starting_threads<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(helper) = priorities().helper.as_ref().filter(|_| IS_LOW.get()) else { return work() };
    let (done, result) = mpsc::channel();
    let work = move || {
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    };
    let _ = helper.send(Box::new(work));
    match result.recv() {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(gone) => resume_unwind(Box::new(gone)),
    }
}

/// The nice value of a thread; 0 is this one.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call")]
fn nice(thread: libc::id_t) -> Option<i32> {
    // SAFETY: the calls take and give numbers; errno is this thread's own.
    let (value, error) = unsafe {
        *libc::__errno_location() = 0;
        (libc::getpriority(libc::PRIO_PROCESS, thread), *libc::__errno_location())
    };
    (error == 0).then_some(value)
}

#[cfg(target_os = "linux")]
fn set_nice(thread: libc::id_t, value: i32, slice: Slice) -> bool {
    set_nice_and_slice(thread, value, slice) || set_nice_only(thread, value)
}

/// Sets the nice value, and the time slice that the thread requests.
///
/// A thread that wakes up preempts at once a thread with a longer slice than its own. Any other thread it preempts only after a
/// few milliseconds, however nice that thread is. This is `PREEMPT_SHORT` in kernel/sched/fair.c, since Linux 6.12; kernels
/// before ignore the slice. The share of the CPU depends on the nice value alone.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call")]
fn set_nice_and_slice(thread: libc::id_t, value: i32, slice: Slice) -> bool {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: 0,
        sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
        sched_nice: value,
        sched_priority: 0,
        sched_runtime: slice as u64,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call takes a number and reads a structure that lives and has its size in it. A number that names no thread of
    // ours can only be of one that has ended.
    unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) == 0 }
}

/// Sets the nice value alone, for sandboxes that refuse the call above.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "a system call")]
fn set_nice_only(thread: libc::id_t, value: i32) -> bool {
    // SAFETY: the call takes numbers. One that names no thread of ours can only be one that has ended.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, value) == 0 }
}

/// On other systems the nice value belongs to the whole process.
#[cfg(not(target_os = "linux"))]
fn nice(_: u32) -> Option<i32> {
    None
}

#[cfg(not(target_os = "linux"))]
fn set_nice(_: u32, _: i32, _: Slice) -> bool {
    false
}

/// Returns freed memory to the system: glibc would keep the free memory between pieces that are in use.
pub(crate) fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a call of the C library")]
    // SAFETY: it takes a number, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::Relaxed},
        time::Duration,
    };

    use super::*;

    const ROUNDS: usize = 600;

    /// Regardless of the threads of other tests, this thread is at normal priority again, if the process may restore it.
    #[test]
    fn lowered_threads_return_to_normal_priority() {
        steps_aside_and_comes_forward();
    }

    #[test]
    fn priority_restore_misses_no_thread_while_others_end() {
        let end = AtomicBool::new(false);
        let begin_and_end = || {
            while !end.load(Relaxed) {
                let threads: Vec<_> =
                    (0..8).map(|_| thread::spawn(|| thread::sleep(Duration::from_micros(50)))).collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            }
        };
        thread::scope(|scope| {
            (0..3).for_each(|_| drop(scope.spawn(begin_and_end)));
            let all = catch_unwind(|| (0..ROUNDS).for_each(|_| steps_aside_and_comes_forward()));
            end.store(true, Relaxed);
            all.unwrap();
        });
    }

    fn steps_aside_and_comes_forward() {
        let (tell, id_of_thread) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let own = fs::read_link("/proc/thread-self").unwrap();
            let id = own.file_name().unwrap().to_str().unwrap().parse().unwrap();
            lower_until_restored();
            tell.send(id).unwrap();
            let _ = ended.recv();
        });
        let id: libc::id_t = id_of_thread.recv().unwrap();
        restore_all();
        let Priorities { normal, low, ref helper } = *priorities();
        assert_eq!(nice(id), Some(if helper.is_none() { normal } else { low }));
        drop(end);
        thread.join().unwrap();
    }
}
