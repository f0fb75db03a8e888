//! Finds out which axes of a model's inputs may be empty, by runs with extents of 0.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    engine::{Instance, NeedsElements, Provider},
    tensor::{Dimension, ModelInputs, Shape, Signature, Tensor, ZeroExtents},
};

use super::probe::Probe;

/// Time that the runs take at most, but for the last: a load is not to wait.
const MAX_TIME: Duration = Duration::from_secs(2);

/// Axes of inputs that have one extent: pairs of an input and an axis.
type AxisGroup = Vec<(usize, usize)>;

/// Runs the probe's inputs once for each group of axes, with extents of 0 there. Nothing is run where the graph holds an operator
/// that is known to end the process for lack of elements.
pub(in crate::loader) fn zero_extents(instance: &mut Instance, probe: &Probe, provider: Provider) -> ZeroExtents {
    let signature = instance.signature().clone();
    let refused = |why: String| ZeroExtents::refused(&signature, why);
    let needs = instance.needs_elements().clone();
    if let Some(why) = &needs.all {
        return refused(why.clone());
    }
    if !matches!(provider, Provider::Cpu | Provider::Cuda { .. }) {
        return refused(format!("nothing without elements is tried on {provider}"));
    }
    let Some(example) = &probe.example else {
        return refused("no inputs that were made up ran when the model was loaded".into());
    };
    let started = Instant::now();
    let mut found = refused("the model was not checked with it".into());
    for group in groups(&signature, probe.rows_independent.is_ok()) {
        if started.elapsed() > MAX_TIME {
            break;
        }
        if let Some(why) = needed(&needs, example, &group) {
            set(&mut found, &group, Some(why.into()));
            continue;
        }
        let Some(inputs) = emptied(example, &group) else { continue };
        match instance.run(&[&inputs]).outputs {
            Ok(_) => set(&mut found, &group, None),
            Err(error) => {
                let why = format!("a run with it failed when the model was loaded: {error}");
                set(&mut found, &group, Some(why.into()));
            }
        }
    }
    found
}

fn set(found: &mut ZeroExtents, group: &AxisGroup, refusal: Option<Arc<str>>) {
    for (input, axis) in group {
        found.set(*input, *axis, refusal.clone());
    }
}

/// Why none of these axes may be empty, where an operator of the graph is known to suffer from it.
fn needed(needs: &NeedsElements, example: &ModelInputs, group: &AxisGroup) -> Option<String> {
    let rank = |input: usize| example.required[input].shape().extents().len();
    let is_feature = |(input, axis): (usize, usize)| axis + 1 == rank(input) || axis == 1 && rank(input) == 4;
    let rows = needs.rows.as_ref().filter(|_| group.iter().any(|(_, axis)| *axis == 0));
    let features = needs.features.as_ref().filter(|_| group.iter().any(|of| is_feature(*of)));
    rows.or(features).cloned()
}

/// The open axes of the inputs, those together that have one extent.
fn groups(signature: &Signature, rows_independent: bool) -> Vec<AxisGroup> {
    let mut named: BTreeMap<Arc<str>, AxisGroup> = BTreeMap::new();
    let (mut batch, mut single) = (AxisGroup::new(), Vec::new());
    for (input, spec) in signature.inputs.iter().enumerate() {
        let Some(shape) = &spec.shape else {
            single.push(vec![(input, 0)]);
            continue;
        };
        for (axis, dimension) in shape.iter().enumerate() {
            match dimension {
                Dimension::Fixed(_) => {}
                Dimension::Symbolic(_) if axis == 0 && rows_independent => batch.push((input, axis)),
                Dimension::Symbolic(Some(name)) => named.entry(name.clone()).or_default().push((input, axis)),
                Dimension::Symbolic(None) => single.push(vec![(input, axis)]),
            }
        }
    }
    let groups = std::iter::once(batch).chain(named.into_values()).chain(single);
    groups.filter(|group| !group.is_empty()).collect()
}

/// Inputs with extents of 0 on some axes.
fn emptied(example: &ModelInputs, group: &AxisGroup) -> Option<ModelInputs> {
    let tensors = example.required.iter().enumerate().map(|(input, tensor)| {
        let mut extents = tensor.shape().extents().to_vec();
        let axes = group.iter().filter(|(other, _)| *other == input);
        for (_, axis) in axes {
            *extents.get_mut(*axis)? = 0;
        }
        let data = if extents.contains(&0) { Bytes::new() } else { tensor.data().clone() };
        Tensor::new(tensor.datatype(), Shape::new(extents), data).ok()
    });
    Some(tensors.collect::<Option<Vec<_>>>()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Datatype, TensorSpec};

    fn input(name: &str, axes: &[&str]) -> TensorSpec {
        let dimension = |axis: &&str| match axis.parse() {
            Ok(extent) => Dimension::Fixed(extent),
            Err(_) => Dimension::Symbolic((!axis.is_empty()).then(|| (*axis).into())),
        };
        let shape = Some(axes.iter().map(dimension).collect());
        TensorSpec { name: name.into(), datatype: Datatype::Fp32, shape, labels: Vec::new() }
    }

    #[test]
    fn axes_of_one_extent_are_emptied_together() {
        let inputs = vec![input("a", &["n", "t", "4"]), input("b", &["n", "t"]), input("c", &["", ""])];
        let signature = Signature::new(inputs, Vec::new(), Vec::new());
        let together = [vec![(0, 0), (1, 0), (2, 0)], vec![(0, 1), (1, 1)], vec![(2, 1)]];
        assert_eq!(groups(&signature, true), together);
        let apart = [vec![(0, 0), (1, 0)], vec![(0, 1), (1, 1)], vec![(2, 0)], vec![(2, 1)]];
        assert_eq!(groups(&signature, false), apart);
    }
}
