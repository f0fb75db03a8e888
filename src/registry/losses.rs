//! Versions that break while they serve: they are taken out of service, and loaded again with back-off or quarantined.

use std::time::{Duration, Instant};

use super::{
    Registry,
    inventory::Retired,
    plan::{Retry, Serving},
    shared::Message,
};
use crate::{error::Lost, loader::Key, router::Version};

/// Losses in a row before a version is quarantined, though each alone may pass.
const MAX_LOSSES: u32 = 5;

/// A version that is not lost for so long has recovered: the next loss is its first.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// A version that can serve no more, as its batcher reports it.
pub(super) struct Loss {
    key: Key,
    generation: u64,
    lost: Lost,
}

/// Losses of a version in a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Losses {
    count: u32,
    last: Instant,
    retry: Retry,
}

impl Losses {
    /// After one more loss.
    fn after(before: Option<Losses>, now: Instant) -> Self {
        let before = before.filter(|before| now.saturating_duration_since(before.last) < RECOVERED_AFTER);
        let retry = Retry::after(before.map(|before| before.retry), now);
        Losses { count: before.map_or(0, |before| before.count) + 1, last: now, retry }
    }

    /// When the version is loaded again; `None`: not by itself.
    fn retry(self) -> Option<Retry> {
        (self.count < MAX_LOSSES).then_some(self.retry)
    }
}

impl Registry {
    /// Has the batcher of a version report its loss.
    pub(super) fn report_loss_of(&self, key: &Key, version: &Version) {
        let (key, generation, shared) = (key.clone(), version.generation, self.shared.inbox());
        version.batcher.on_lost(move |lost| {
            let loss = Loss { key: key.clone(), generation, lost: lost.clone() };
            let _ = shared.send(Message::Lost(loss.into()));
        });
    }

    /// Takes a lost version out of service. Its requests go where those of a version that failed to be loaded go.
    pub(super) fn settle_loss(&mut self, Loss { key, generation, lost }: Loss) {
        let mut inventory = self.shared.inventory();
        let Some(slot) = inventory.slots.get_mut(&key) else { return };
        let Some(Serving { version, memory }) =
            slot.serving.take_if(|serving| serving.version.generation == generation)
        else {
            return;
        };
        let losses = Losses::after(slot.losses, Instant::now());
        slot.losses = Some(losses);
        slot.retry = losses.retry().filter(|_| !lost.is_final);
        let Lost { why, .. } = lost;
        let (model, version_number) = (&key.0, key.1);
        let next = match slot.retry {
            Some(_) => "it is loaded again with back-off",
            None => "it is quarantined: an admin call to load it, or other files, lift that",
        };
        tracing::error!(model, version = version_number, generation, "out of service: {why}; {next}");
        (slot.failure, slot.is_lost) = (Some(format!("{why}; {next}").into()), true);
        inventory.retired.push(Retired { key: key.clone(), version, memory });
        self.shared.publish(&mut inventory, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_in_a_row_end_in_quarantine_and_a_recovered_version_begins_anew() {
        let (mut losses, mut now) = (None, Instant::now());
        for count in 1..=MAX_LOSSES {
            let after = Losses::after(losses, now);
            assert_eq!(after.retry().is_some(), count < MAX_LOSSES);
            losses = Some(after);
            now += RECOVERED_AFTER / 2;
        }
        let first = Losses::after(None, now).retry();
        assert_eq!(Losses::after(losses, now + RECOVERED_AFTER).count, 1);
        assert!(first.is_some_and(|retry| retry.at > now));
    }
}
