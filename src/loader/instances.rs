//! The instances of a version beside its first: as many as are requested on each of its devices.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::request::LoadRequest;
use super::{
    context::Loader,
    gpu_room::room_on,
    graphs,
    placement::{Placement, WarmInstance},
    probe::{Probe, warm_up},
};
use crate::{
    batcher::{Compute, OnDevice},
    config::Device,
    engine::{Instance, Provider, Target},
    error::Failure,
};

/// Instances on a device that runs wait for: the copies of one go on beside the run of another.
const ON_A_DEVICE: usize = 2;

/// Instances of a version, with the threads that run them.
pub(in crate::loader) struct WarmInstances {
    pub instances: Vec<OnDevice>,
    /// The provider of each of these lists.
    pub providers: Vec<Provider>,
    /// The threads that drive them.
    pub compute: Compute,
    /// Time that it took to warm them up.
    pub warm_up: Duration,
    /// Possible mistakes, for people.
    pub warnings: Vec<String>,
}

fn not_everywhere(why: String) -> String {
    format!("it does not run on every GPU: {why}")
}

impl Loader {
    /// All instances of a version.
    pub(in crate::loader) fn instances(
        &self,
        request: &LoadRequest,
        placed: Placement,
    ) -> Result<WarmInstances, Failure> {
        let Placement { first: WarmInstance { instance, target, probe, .. }, providers, refused, .. } = placed;
        let waits = target.provider.waits();
        let count = request.config.instances.unwrap_or(if waits { ON_A_DEVICE } else { 1 });
        let mut made = WarmInstances {
            instances: Vec::new(),
            providers: Vec::new(),
            compute: self.compute.clone(),
            warm_up: Duration::ZERO,
            warnings: refused.into_iter().map(not_everywhere).collect(),
        };
        let mut first = Some(instance);
        for provider in providers {
            let on = Target { provider, ..target.clone() };
            let is_first = first.is_some();
            // There was room for the first.
            let room = if is_first { Ok(()) } else { room_on(provider, request.memory()) };
            let on_device = |()| self.on_device(request, first.take(), &on, &probe, count, &mut made);
            match room.and_then(on_device) {
                Ok(instances) => {
                    let in_flight = waits.then(|| self.compute.in_flight(provider));
                    made.instances.push(OnDevice { instances, in_flight });
                    made.providers.push(provider);
                }
                // Such as one whose memory others have taken.
                Err(Failure { why, .. }) if !is_first && self.device(&request.config) == Device::Auto => {
                    made.warnings.push(not_everywhere(format!("{provider} can't run it: {why}")));
                }
                Err(failure) => return Err(failure),
            }
        }
        if waits {
            let threads = self.compute.on_devices(&made.providers, count);
            made.compute = threads
                .map_err(|error| Failure::passing(format!("no threads can be started for its runs: {error}")))?;
        }
        Ok(made)
    }

    /// So many instances on one device, the first of which may be there. Where runs wait for the device, they share a session:
    /// weights are in its memory once. Where runs are recorded, which go one after the other in a session, each has its own if
    /// there is room.
    fn on_device(
        &self,
        request: &LoadRequest,
        first: Option<Instance>,
        target: &Target,
        probe: &Probe,
        count: usize,
        made: &mut WarmInstances,
    ) -> Result<Vec<Instance>, Failure> {
        let mut instances: Vec<Instance> = first.into_iter().collect();
        while instances.len() < count {
            let shared = instances.first().filter(|_| target.provider.waits()).map(Instance::sharing);
            if shared.is_some() && target.captures_graphs() {
                match self.recorded(request, target, probe) {
                    Ok(instance) => {
                        instances.push(instance);
                        continue;
                    }
                    Err(why) => made.warnings.push(format!(
                        "an instance on {} has no session of its own, and shares the first one's: {why}",
                        target.provider
                    )),
                }
            }
            let mut instance = match shared {
                Some(shared) => shared,
                None => self.instance(request, target)?,
            };
            made.warm_up += warm_up(&mut instance);
            if instance.death().is_some() {
                instance.restart()?;
            }
            if target.captures_graphs()
                && let Err(why) = graphs::record(&mut instance, probe, request.config.max_batch_size)
            {
                made.warnings.push(format!("an instance on {} replays no recorded runs: {why}", target.provider));
            }
            instances.push(instance);
        }
        Ok(instances)
    }

    /// One that replays recorded runs, with a session of its own.
    fn recorded(&self, request: &LoadRequest, target: &Target, probe: &Probe) -> Result<Instance, String> {
        let made = room_on(target.provider, request.memory()).and_then(|()| self.instance(request, target));
        let mut instance = made.map_err(|failure| failure.why)?;
        warm_up(&mut instance);
        graphs::record(&mut instance, probe, request.config.max_batch_size)?;
        Ok(instance)
    }
}
