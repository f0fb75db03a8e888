//! Activities: the work of a thread with a model.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::slots::{self, ActivitySlot, MAX_TEXT};

/// Bytes of a model's name that are recorded at most.
const MAX_NAME: usize = 160;

/// Kind of work that a thread does with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivityPhase {
    /// The thread makes a session of the model.
    Load = 1,
    /// The thread runs the model.
    Run = 2,
}

/// A model to be named in a record: its name, version and the SHA-256 of its files.
#[derive(Debug)]
pub struct Activity {
    /// Number that identifies the activity without its text; never 0.
    id: u64,
    text: Box<[u64]>,
    length: usize,
}

/// Ends the note of an activity when it is dropped.
#[must_use]
pub struct Doing(Option<&'static ActivitySlot>);

impl Activity {
    /// An activity about a version whose files have this SHA-256, in hexadecimal digits.
    pub fn new(model: &str, version: u64, digest: &str) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let name = recorded_name(model);
        let mut text = format!("{name}\t{version}\t{digest}").into_bytes();
        text.truncate(MAX_TEXT);
        let length = text.len();
        text.resize(length.next_multiple_of(size_of::<u64>()), 0);
        let words = text.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        Activity { id: NEXT_ID.fetch_add(1, Relaxed), text: words, length }
    }

    /// Notes that this thread works on the activity, until the result is dropped. A thread has one activity at a time.
    pub fn begin(&self, phase: ActivityPhase) -> Doing {
        let slot = slots::of_this_thread();
        if let Some(slot) = slot {
            slot.set(self.id, &self.text, self.length, phase as u64);
        }
        Doing(slot)
    }
}

/// The name of a model as records have it: in one field, and of limited length.
pub fn recorded_name(model: &str) -> String {
    model.escape_default().take(MAX_NAME).collect()
}

impl Drop for Doing {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activity_names_are_one_field_and_bounded() {
        let text = |model: &str| {
            let Activity { text, length, .. } = Activity::new(model, 7, &"f".repeat(64));
            let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).take(length).collect();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(text("m"), format!("m\t7\t{}", "f".repeat(64)));
        let odd = text("a\tb\nc\u{e9}");
        assert_eq!(odd.split('\t').count(), 3, "{odd}");
        assert!(text(&"\u{1f600}".repeat(1000)).len() <= MAX_TEXT);
        assert!(text(&"\u{1f600}".repeat(1000)).ends_with(&format!("\t7\t{}", "f".repeat(64))));
    }

    #[test]
    fn slot_holds_the_activity_of_its_thread() {
        let mut text = [0; MAX_TEXT];
        let (first, second) = (Activity::new("first", 1, "a"), Activity::new("second", 2, "b"));
        let mut read = || {
            let (phase, length) = slots::existing().unwrap().read(&mut text)?;
            Some((phase, String::from_utf8(text[..length].to_vec()).unwrap()))
        };
        for _ in 0..2 {
            let doing = first.begin(ActivityPhase::Load);
            assert_eq!(read(), Some((1, "first\t1\ta".into())));
            drop(doing);
            assert_eq!(read(), None);
            let doing = second.begin(ActivityPhase::Run);
            assert_eq!(read(), Some((2, "second\t2\tb".into())));
            drop(doing);
        }
    }
}
