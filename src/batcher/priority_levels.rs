//! Priority levels of requests, as in Triton.

use std::sync::Arc;

use super::queue::LevelLimits;
use crate::config::{ModelConfig, PriorityLimit, QueueTime};

/// The priority levels of a version's queues. A version that declares none has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// The highest level first.
    limits: Arc<[LevelLimits]>,
    /// Index of the level of requests that give none.
    default: usize,
}

impl Levels {
    /// The levels that a model's settings declare. `max_queue_time` holds where they say none.
    pub fn new(config: &ModelConfig, max_queue_time: QueueTime) -> Self {
        let max_wait = config.max_queue_time.unwrap_or(max_queue_time);
        let count = config.priority_levels.unwrap_or(1).max(1);
        let limits = |level: usize| {
            let own = config.priority.0.get(&(level as u64));
            let PriorityLimit { max_queue_size, max_queue_time } = own.copied().unwrap_or_default();
            LevelLimits { max_jobs: max_queue_size.unwrap_or(usize::MAX), max_wait: max_queue_time.unwrap_or(max_wait) }
        };
        let default = config.default_priority.map_or(count - 1, |level| level - 1).min(count - 1);
        Levels { limits: (1..=count).map(limits).collect(), default }
    }

    pub(super) fn limits(&self) -> &Arc<[LevelLimits]> {
        &self.limits
    }

    /// Index of the level of a request. As in Triton, 0 and levels that there are not stand for the default.
    pub(super) fn index(&self, priority: u64) -> usize {
        let index = usize::try_from(priority).ok().and_then(|level| level.checked_sub(1));
        index.filter(|index| *index < self.limits.len()).unwrap_or(self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_levels_are_those_of_triton() {
        let config = ModelConfig { priority_levels: Some(3), default_priority: Some(2), ..ModelConfig::default() };
        let levels = Levels::new(&config, QueueTime::Auto);
        let indices = |priority: u64| levels.index(priority);
        assert_eq!([1, 2, 3, 0, 4, u64::MAX].map(indices), [0, 1, 2, 1, 1, 1]);
        let without = Levels::new(&ModelConfig::default(), QueueTime::Unlimited);
        assert_eq!([0, 1, 7].map(|priority| without.index(priority)), [0, 0, 0]);
        let lowest = ModelConfig { priority_levels: Some(3), ..ModelConfig::default() };
        assert_eq!(Levels::new(&lowest, QueueTime::Auto).index(0), 2);
    }
}
