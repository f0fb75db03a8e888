//! Shapes of outputs, predicted before a run, so that memory can be prepared for them. Pure.

use crate::tensor::{Dimension, Shape, Signature, TensorSpec};

/// Predicted shapes of a model's outputs.
#[derive(Debug, Clone)]
pub(in crate::engine) struct PredictedShapes(Vec<ShapePrediction>);

#[derive(Debug, Clone)]
enum ShapePrediction {
    /// It has not been seen yet whether it is as it is declared.
    Unseen(DeclaredShape),
    /// It was as declared whenever it was seen.
    AsDeclared(DeclaredShape),
    /// It can be of any shape.
    Open,
}

/// The declared shape of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeclaredShape {
    /// All extents.
    Fixed,
    /// All but that of axis 0, which is the extent of the inputs' axis 0.
    ByRows,
}

impl PredictedShapes {
    /// By what a model says, nothing of which has been seen yet: declared shapes can be wrong.
    pub(in crate::engine) fn new(signature: &Signature) -> Self {
        let output =
            |spec: &TensorSpec| declared(spec, signature).map_or(ShapePrediction::Open, ShapePrediction::Unseen);
        PredictedShapes(signature.outputs.iter().map(output).collect())
    }

    /// The shape of an output in a run of so many rows, where it is sure enough.
    pub(in crate::engine) fn shape(&self, index: usize, spec: &TensorSpec, rows: usize) -> Option<Shape> {
        match self.0.get(index)? {
            ShapePrediction::AsDeclared(declared) => Some(shape(spec, *declared, rows)),
            ShapePrediction::Unseen(_) | ShapePrediction::Open => None,
        }
    }

    /// Records that an output that was not predicted had this shape in a run of so many rows.
    pub(in crate::engine) fn observe(&mut self, index: usize, spec: &TensorSpec, rows: usize, shape_of_run: &Shape) {
        if let Some(output) = self.0.get_mut(index)
            && let ShapePrediction::Unseen(declared) = *output
        {
            let as_declared = shape(spec, declared, rows) == *shape_of_run;
            *output = if as_declared { ShapePrediction::AsDeclared(declared) } else { ShapePrediction::Open };
        }
    }

    /// Records that outputs had other shapes than predicted.
    pub(in crate::engine) fn was_wrong(&mut self) {
        self.0.fill(ShapePrediction::Open);
    }
}

fn declared(spec: &TensorSpec, signature: &Signature) -> Option<DeclaredShape> {
    spec.datatype.size()?;
    // An output that is an input passed through is not written to other memory.
    if signature.all_inputs().any(|input| input.name == spec.name) {
        return None;
    }
    let (first, inner) = spec.shape.as_ref()?.split_first()?;
    if inner.iter().any(|dimension| matches!(dimension, Dimension::Symbolic(_))) {
        return None;
    }
    match first {
        Dimension::Fixed(_) => Some(DeclaredShape::Fixed),
        Dimension::Symbolic(Some(_)) => {
            let rows = signature.inputs.first()?.shape.as_ref()?.first()?;
            (rows == first).then_some(DeclaredShape::ByRows)
        }
        Dimension::Symbolic(None) => None,
    }
}

fn shape(spec: &TensorSpec, declared: DeclaredShape, rows: usize) -> Shape {
    let extent = |(axis, dimension): (usize, &Dimension)| match dimension {
        _ if axis == 0 && declared == DeclaredShape::ByRows => rows,
        Dimension::Fixed(extent) => *extent,
        Dimension::Symbolic(_) => 0,
    };
    Shape::new(spec.shape.iter().flatten().enumerate().map(extent).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;

    fn spec(name: &str, datatype: Datatype, dimensions: &[&str]) -> TensorSpec {
        let dimension = |text: &&str| match text.parse() {
            Ok(extent) => Dimension::Fixed(extent),
            Err(_) => Dimension::Symbolic((!text.is_empty()).then(|| (*text).into())),
        };
        let shape = Some(dimensions.iter().map(dimension).collect());
        TensorSpec { name: name.into(), datatype, shape, labels: Vec::new() }
    }

    fn signature(outputs: Vec<TensorSpec>) -> Signature {
        Signature::new(vec![spec("x", Datatype::Fp32, &["batch", "2"])], Vec::new(), outputs)
    }

    #[test]
    fn shape_is_predicted_once_observed_as_declared() {
        let by_rows = spec("y", Datatype::Fp32, &["batch", "3"]);
        let fixed = spec("z", Datatype::Int64, &["5"]);
        let signature = signature(vec![by_rows.clone(), fixed.clone()]);
        let mut predicted = PredictedShapes::new(&signature);
        assert_eq!(predicted.shape(0, &by_rows, 2), None, "before it was seen");
        predicted.observe(0, &by_rows, 4, &Shape::new(vec![4, 3]));
        predicted.observe(1, &fixed, 4, &Shape::new(vec![5]));
        assert_eq!(predicted.shape(0, &by_rows, 2), Some(Shape::new(vec![2, 3])));
        assert_eq!(predicted.shape(1, &fixed, 2), Some(Shape::new(vec![5])));
        predicted.was_wrong();
        predicted.observe(0, &by_rows, 4, &Shape::new(vec![4, 3]));
        assert_eq!(predicted.shape(0, &by_rows, 2), None, "once wrong, never again");
    }

    #[test]
    fn shape_is_not_predicted_after_a_deviation() {
        let output = spec("y", Datatype::Fp32, &["batch", "3"]);
        let mut predicted = PredictedShapes::new(&signature(vec![output.clone()]));
        predicted.observe(0, &output, 4, &Shape::new(vec![3, 4]));
        predicted.observe(0, &output, 4, &Shape::new(vec![4, 3]));
        assert_eq!(predicted.shape(0, &output, 4), None);
    }

    #[test]
    fn open_and_passed_through_shapes_are_not_predicted() {
        let open = [
            spec("y", Datatype::Fp32, &["batch", "tokens"]),
            spec("y", Datatype::Fp32, &["boxes", "4"]),
            spec("y", Datatype::Fp32, &["", "4"]),
            spec("y", Datatype::Fp32, &[]),
            spec("y", Datatype::Bytes, &["batch", "4"]),
            spec("x", Datatype::Fp32, &["batch", "2"]),
            TensorSpec { shape: None, ..spec("y", Datatype::Fp32, &[]) },
        ];
        for output in open {
            let mut predicted = PredictedShapes::new(&signature(vec![output.clone()]));
            predicted.observe(0, &output, 1, &Shape::new(vec![1, 4]));
            assert_eq!(predicted.shape(0, &output, 1), None, "{output:?}");
        }
    }
}
