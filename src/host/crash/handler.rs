//! The handler of signals that end the process: it writes a record and lets the signal end the process as it would have.
//!
//! Everything in it is safe in a signal handler: it reads static memory, and calls `write` and `clock_gettime`.

use std::{
    cell::UnsafeCell,
    fs::File,
    mem::MaybeUninit,
    os::fd::IntoRawFd,
    ptr,
    sync::atomic::{
        AtomicBool, AtomicI32,
        Ordering::{Relaxed, SeqCst},
    },
};

use super::slots::{self, ActivitySlot, MAX_TEXT};

/// The signals by which a fault in a library ends the process, with their names.
pub const SIGNALS: [(i32, &str); 5] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGABRT, "SIGABRT"),
];

/// Descriptor that records are written to; -1: none.
static FILE: AtomicI32 = AtomicI32::new(-1);

/// True once a record was written: one death may raise two signals, for example if a stack overflow aborts.
static IS_RECORDED: AtomicBool = AtomicBool::new(false);

/// Actions of the signals before `install`.
struct Before([UnsafeCell<MaybeUninit<libc::sigaction>>; SIGNALS.len()]);

// SAFETY: written by `install` before the handler is there, and only read from then on.
#[allow(unsafe_code, reason = "plain data behind a cell")]
unsafe impl Sync for Before {}

static BEFORE: Before = Before([const { UnsafeCell::new(MaybeUninit::zeroed()) }; SIGNALS.len()]);

/// Installs handlers that record deaths of the process in a file that was opened for appending. Only the first call has an
/// effect.
#[allow(unsafe_code, reason = "installs signal handlers")]
pub fn install(file: File) {
    if FILE.compare_exchange(-1, file.into_raw_fd(), SeqCst, Relaxed).is_err() {
        return;
    }
    for ((signal, _), before) in SIGNALS.iter().zip(&BEFORE.0) {
        // SAFETY: a zeroed `sigaction` is a valid one, all of whose fields are set then. The handler has the signature that
        // SA_SIGINFO requires, and does only what is allowed in a handler. The previous action is written to memory of ours.
        unsafe {
            let before = (*before.get()).as_mut_ptr();
            let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
            action.sa_sigaction = handle as *const () as usize;
            // Threads of Rust have an alternate stack, on which a stack overflow can be handled.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(*signal, ptr::null(), before);
            libc::sigaction(*signal, &raw const action, ptr::null_mut());
        }
    }
}

#[allow(unsafe_code, reason = "a signal handler")]
extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if !IS_RECORDED.swap(true, SeqCst) {
        record(signal);
    }
    let Some(index) = SIGNALS.iter().position(|(known, _)| *known == signal) else { return };
    // SAFETY: `install` has written the previous action. The system passes information that lives as long as this call. A signal
    // raised while it is blocked is delivered after the handler returns.
    unsafe {
        libc::sigaction(signal, (*BEFORE.0[index].get()).as_ptr(), ptr::null_mut());
        // A signal that a process has sent does not come again by itself. One of a fault does, when the instruction is repeated.
        if info.is_null() || (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}

/// Writes the activity of the present thread, or else all activities that may be to blame.
fn record(signal: i32) {
    if slots::existing().is_some_and(|slot| write_line(signal, slot, b"certain")) {
        return;
    }
    for slot in slots::all() {
        write_line(signal, slot, b"candidate");
    }
}

/// Writes a line about a slot: false if its thread has no activity.
fn write_line(signal: i32, slot: &ActivitySlot, attribution: &[u8]) -> bool {
    let mut text = [0; MAX_TEXT];
    let Some((phase, length)) = slot.read(&mut text) else { return false };
    let mut line = StackLine { bytes: [0; MAX_TEXT + 128], length: 0 };
    line.push(b"new\t");
    line.push(SIGNALS.iter().find(|(known, _)| *known == signal).map_or(b"?", |(_, name)| name.as_bytes()));
    line.push(b"\t");
    line.push_number(now());
    line.push(b"\t");
    line.push(if phase == 1 { b"load" } else { b"run" });
    line.push(b"\t");
    line.push(attribution);
    line.push(b"\t");
    line.push(&text[..length]);
    line.push(b"\n");
    line.write();
    true
}

/// Seconds since the epoch.
#[allow(unsafe_code, reason = "a system call")]
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to a structure of this function.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0)
}

/// A line that is built on the stack.
struct StackLine {
    bytes: [u8; MAX_TEXT + 128],
    length: usize,
}

impl StackLine {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.push(&digits[start..]);
    }

    #[allow(unsafe_code, reason = "a system call")]
    fn write(&self) {
        // SAFETY: the bytes are this line's. If there is no file, the write fails, and there is nowhere to report it.
        unsafe { libc::write(FILE.load(Relaxed), self.bytes.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_line_truncates_at_its_capacity() {
        let mut line = StackLine { bytes: [0; MAX_TEXT + 128], length: 0 };
        line.push_number(0);
        line.push(b" ");
        line.push_number(u64::MAX);
        assert_eq!(&line.bytes[..line.length], b"0 18446744073709551615");
        (0..100).for_each(|_| line.push(b"0123456789"));
        assert_eq!(line.length, line.bytes.len());
    }
}
