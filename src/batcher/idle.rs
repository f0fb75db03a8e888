//! Idle instances of a lane. The next is one on the device with the fewest runs in flight. Pure but for the count of runs, which
//! versions share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Number of runs in flight on a device, of all versions that run on it.
#[derive(Debug, Clone, Default)]
pub struct DeviceInFlight(Arc<AtomicUsize>);

/// Idle instances of a lane, by device.
pub(super) struct Idle<I> {
    devices: Box<[DeviceInstances<I>]>,
    /// Of all devices.
    count: usize,
    /// The device that an instance was last taken from.
    last: usize,
}

struct DeviceInstances<I> {
    idle: Vec<I>,
    /// `None` for the CPU, whose threads are counted.
    in_flight: Option<DeviceInFlight>,
}

impl<I> Idle<I> {
    /// Instances by the device that they run on.
    pub(super) fn new(devices: impl IntoIterator<Item = (Vec<I>, Option<DeviceInFlight>)>) -> Self {
        let devices: Box<[DeviceInstances<I>]> =
            devices.into_iter().map(|(idle, in_flight)| DeviceInstances { idle, in_flight }).collect();
        let count = devices.iter().map(|device| device.idle.len()).sum();
        Idle { last: devices.len(), devices, count }
    }

    /// Number of idle instances.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes an instance, if there is one, with the number of its device, by which it is given back.
    pub(super) fn take(&mut self) -> Option<(usize, I)> {
        let number = match &*self.devices {
            [_] => 0,
            devices => least_busy(devices.iter().map(DeviceInstances::busy), self.last)?,
        };
        let device = &mut self.devices[number];
        let instance = device.idle.pop()?;
        if let Some(DeviceInFlight(runs)) = &device.in_flight {
            runs.fetch_add(1, Relaxed);
        }
        self.count -= 1;
        self.last = number;
        Some((number, instance))
    }

    /// Takes the first instance that is wanted, as `take` does.
    pub(super) fn take_if(&mut self, mut is_wanted: impl FnMut(&mut I) -> bool) -> Option<(usize, I)> {
        for (number, device) in self.devices.iter_mut().enumerate() {
            let Some(index) = device.idle.iter_mut().position(&mut is_wanted) else { continue };
            if let Some(DeviceInFlight(runs)) = &device.in_flight {
                runs.fetch_add(1, Relaxed);
            }
            self.count -= 1;
            return Some((number, device.idle.swap_remove(index)));
        }
        None
    }

    /// All that are idle now.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut I> {
        self.devices.iter_mut().flat_map(|device| &mut device.idle)
    }

    /// Gives an instance back.
    pub(super) fn put(&mut self, number: usize, instance: I) {
        let device = &mut self.devices[number];
        if let Some(DeviceInFlight(runs)) = &device.in_flight {
            runs.fetch_sub(1, Relaxed);
        }
        device.idle.push(instance);
        self.count += 1;
    }

    /// Forgets an instance that was taken and does not come back.
    pub(super) fn lose(&mut self, number: usize) {
        if let Some(DeviceInFlight(runs)) = &self.devices[number].in_flight {
            runs.fetch_sub(1, Relaxed);
        }
    }
}

impl<I> DeviceInstances<I> {
    /// The runs that keep it busy; `None` where no instance is idle.
    fn busy(&self) -> Option<usize> {
        (!self.idle.is_empty()).then(|| self.in_flight.as_ref().map_or(0, |DeviceInFlight(runs)| runs.load(Relaxed)))
    }
}

/// The device with the fewest runs, of those that have some number of them; of equals the next after `last`.
fn least_busy(runs: impl ExactSizeIterator<Item = Option<usize>>, last: usize) -> Option<usize> {
    let count = runs.len();
    let busy = runs.enumerate().filter_map(|(number, runs)| Some((number, runs?)));
    let after = |number: usize| (number + count - last.min(count - 1) - 1) % count;
    busy.min_by_key(|(number, runs)| (*runs, after(*number))).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn least_busy_device_is_next_and_equals_take_turns(
            runs in prop::collection::vec(prop::option::of(0..4usize), 1..6),
            last in 0..8usize,
        ) {
            let next = least_busy(runs.iter().copied(), last);
            let fewest = runs.iter().flatten().min().copied();
            prop_assert_eq!(next.and_then(|next| runs[next]), fewest);
            if let Some(next) = next {
                let equals = runs.iter().filter(|runs| **runs == fewest).count();
                let mut seen = vec![next];
                for _ in 1..equals {
                    seen.extend(least_busy(runs.iter().copied(), seen[seen.len() - 1]));
                }
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), equals);
            }
        }

        #[test]
        fn instances_come_back_and_runs_in_flight_are_counted(
            sizes in prop::collection::vec(0..4usize, 1..4),
            steps in prop::collection::vec(any::<prop::sample::Index>(), 0..50),
        ) {
            let in_flight: Vec<DeviceInFlight> = sizes.iter().map(|_| DeviceInFlight::default()).collect();
            let instances = |(device, size): (usize, &usize)| (0..*size).map(|_| device).collect::<Vec<_>>();
            let devices = sizes.iter().enumerate().map(instances).zip(in_flight.iter().cloned().map(Some));
            let mut idle = Idle::new(devices.collect::<Vec<_>>());
            let mut taken: Vec<(usize, usize)> = Vec::new();
            let all: usize = sizes.iter().sum();
            for step in steps {
                // Takes more often than not, so that all are taken at times.
                if !taken.is_empty() && step.index(4) == 1 {
                    let wanted = step.index(sizes.len());
                    let is_there = idle.iter_mut().any(|device| *device == wanted);
                    let found = idle.take_if(|device| *device == wanted);
                    prop_assert_eq!(found, is_there.then_some((wanted, wanted)));
                    taken.extend(found);
                } else if !taken.is_empty() && step.index(3) == 0 {
                    let (number, instance) = taken.swap_remove(step.index(taken.len()));
                    idle.put(number, instance);
                } else {
                    let next = idle.take();
                    prop_assert_eq!(next.is_some(), taken.len() < all);
                    taken.extend(next);
                }
                prop_assert_eq!(idle.len() + taken.len(), all);
                for (device, DeviceInFlight(runs)) in in_flight.iter().enumerate() {
                    let running = taken.iter().filter(|(number, _)| *number == device).count();
                    prop_assert_eq!(runs.load(Relaxed), running);
                }
                prop_assert!(taken.iter().all(|(number, instance)| number == instance));
            }
        }
    }

    #[test]
    fn idle_instances_may_be_none() {
        assert!(Idle::<()>::new([]).take().is_none());
        assert!(Idle::<()>::new([(Vec::new(), None)]).take().is_none());
    }
}
