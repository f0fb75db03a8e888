//! The GPUs that CUDA sees in this process, and their numbers.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there are no GPUs to number"))]

use std::env;

/// The variable that sets how CUDA numbers GPUs.
pub const NUMBERING: &str = "CUDA_DEVICE_ORDER";

/// Value that has CUDA number GPUs by their place on the bus.
const BY_BUS: &str = "PCI_BUS_ID";

/// Has CUDA number GPUs by their place on the bus, unless the environment sets another order. By default CUDA numbers first the
/// GPU that it takes for the fastest, and nothing else reports which GPU that is.
///
/// Must be called before any thread is started.
#[allow(unsafe_code, reason = "CUDA has no other switch for it")]
pub fn number_by_bus() {
    if env::var_os(NUMBERING).is_none() {
        // SAFETY: the only thread is the one that runs this, as said above, so nothing else reads or writes the
        // environment meanwhile.
        unsafe { env::set_var(NUMBERING, BY_BUS) }
    }
}

/// True if CUDA numbers GPUs by their place on the bus.
pub fn numbered_by_bus() -> bool {
    env::var_os(NUMBERING).is_some_and(|order| order == BY_BUS)
}

/// A GPU, or a part of one, that CUDA sees.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A GPU, by its place on the bus.
    Whole(usize),
    /// A part of one (MIG), by its identifier.
    Part(String),
}

/// The GPUs that CUDA sees, of the GPUs with these identifiers, in its order. CUDA sees all, or those that `CUDA_VISIBLE_DEVICES`
/// lists by number or identifier. An invalid entry ends the list. If a GPU is listed twice, CUDA sees none at all.
pub(super) fn seen(list: Option<&str>, uuids: &[&str]) -> Vec<Seen> {
    let Some(list) = list else { return (0..uuids.len()).map(Seen::Whole).collect() };
    let mut seen = Vec::new();
    for entry in list.split(',') {
        match one(entry.trim(), uuids) {
            None => break,
            Some(twice) if seen.contains(&twice) => return Vec::new(),
            Some(gpu) => seen.push(gpu),
        }
    }
    seen
}

fn one(entry: &str, uuids: &[&str]) -> Option<Seen> {
    if entry.starts_with("MIG-") {
        return Some(Seen::Part(entry.into()));
    }
    if entry.starts_with("GPU-") {
        // A prefix of an identifier is enough if it matches one GPU only.
        let mut found = uuids.iter().enumerate().filter(|(_, uuid)| uuid.starts_with(entry));
        let (index, _) = found.next()?;
        return found.next().is_none().then_some(Seen::Whole(index));
    }
    entry.parse().ok().filter(|index| *index < uuids.len()).map(Seen::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_devices_list_selects_gpus_as_cuda_does() {
        let uuids = ["GPU-aa11", "GPU-ab22", "GPU-cc33"];
        let whole = |indices: &[usize]| indices.iter().copied().map(Seen::Whole).collect::<Vec<_>>();
        for (list, expected) in [
            (None, whole(&[0, 1, 2])),
            (Some("0,1,2"), whole(&[0, 1, 2])),
            (Some("2, 0"), whole(&[2, 0])),
            (Some("GPU-cc33,GPU-aa11"), whole(&[2, 0])),
            (Some("GPU-ab"), whole(&[1])),
            (Some("GPU-a,2"), vec![]),
            (Some("1,3,0"), whole(&[1])),
            (Some("1,-1,0"), whole(&[1])),
            (Some(""), vec![]),
            (Some("NoDevFiles"), vec![]),
            (Some("1,1"), vec![]),
            (Some("GPU-cc33,GPU-cc"), vec![]),
            (Some("MIG-77"), vec![Seen::Part("MIG-77".into())]),
        ] {
            assert_eq!(seen(list, &uuids), expected, "{list:?}");
        }
    }
}
