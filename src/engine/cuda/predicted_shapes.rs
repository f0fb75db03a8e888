//! Outputs whose shape is known before a run: memory that a device writes to by itself can be had for them. Pure.

use crate::tensor::{Dimension, Shape, Signature, TensorSpec};

/// The outputs of a model, as far as they can be foreseen.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Foreseen(Vec<Output>);

#[derive(Debug, Clone)]
enum Output {
    /// It has not been seen yet whether it is as it is declared.
    Unseen(Declared),
    /// It was as declared whenever it was seen.
    AsDeclared(Declared),
    /// It can be of any shape.
    Open,
}

/// What the model says of an output's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Declared {
    /// All extents.
    Fixed,
    /// All but that of axis 0, which is the extent of the inputs' axis 0.
    ByRows,
}

impl Foreseen {
    /// By what a model says, nothing of which has been seen yet: declared shapes can be wrong.
    pub(in crate::engine) fn new(signature: &Signature) -> Self {
        let output = |spec: &TensorSpec| declared(spec, signature).map_or(Output::Open, Output::Unseen);
        Foreseen(signature.outputs.iter().map(output).collect())
    }

    /// The shape of an output in a run of so many rows, where it is sure enough.
    pub(in crate::engine) fn shape(&self, index: usize, spec: &TensorSpec, rows: usize) -> Option<Shape> {
        match self.0.get(index)? {
            Output::AsDeclared(declared) => Some(shape(spec, *declared, rows)),
            Output::Unseen(_) | Output::Open => None,
        }
    }

    /// An output that was not foreseen came with this shape in a run of so many rows.
    pub(in crate::engine) fn came(&mut self, index: usize, spec: &TensorSpec, rows: usize, came: &Shape) {
        if let Some(output) = self.0.get_mut(index)
            && let Output::Unseen(declared) = *output
        {
            let as_declared = shape(spec, declared, rows) == *came;
            *output = if as_declared { Output::AsDeclared(declared) } else { Output::Open };
        }
    }

    /// They came otherwise than foreseen.
    pub(in crate::engine) fn was_wrong(&mut self) {
        self.0.fill(Output::Open);
    }
}

fn declared(spec: &TensorSpec, signature: &Signature) -> Option<Declared> {
    spec.datatype.size()?;
    // What is passed through is not written to other memory.
    if signature.all_inputs().any(|input| input.name == spec.name) {
        return None;
    }
    let (first, inner) = spec.shape.as_ref()?.split_first()?;
    if inner.iter().any(|dimension| matches!(dimension, Dimension::Symbolic(_))) {
        return None;
    }
    match first {
        Dimension::Fixed(_) => Some(Declared::Fixed),
        Dimension::Symbolic(Some(_)) => {
            let rows = signature.inputs.first()?.shape.as_ref()?.first()?;
            (rows == first).then_some(Declared::ByRows)
        }
        Dimension::Symbolic(None) => None,
    }
}

fn shape(spec: &TensorSpec, declared: Declared, rows: usize) -> Shape {
    let extent = |(axis, dimension): (usize, &Dimension)| match dimension {
        _ if axis == 0 && declared == Declared::ByRows => rows,
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
    fn what_was_seen_as_declared_is_foreseen() {
        let by_rows = spec("y", Datatype::Fp32, &["batch", "3"]);
        let fixed = spec("z", Datatype::Int64, &["5"]);
        let signature = signature(vec![by_rows.clone(), fixed.clone()]);
        let mut foreseen = Foreseen::new(&signature);
        assert_eq!(foreseen.shape(0, &by_rows, 2), None, "before it was seen");
        foreseen.came(0, &by_rows, 4, &Shape::new(vec![4, 3]));
        foreseen.came(1, &fixed, 4, &Shape::new(vec![5]));
        assert_eq!(foreseen.shape(0, &by_rows, 2), Some(Shape::new(vec![2, 3])));
        assert_eq!(foreseen.shape(1, &fixed, 2), Some(Shape::new(vec![5])));
        foreseen.was_wrong();
        foreseen.came(0, &by_rows, 4, &Shape::new(vec![4, 3]));
        assert_eq!(foreseen.shape(0, &by_rows, 2), None, "once wrong, never again");
    }

    #[test]
    fn what_comes_otherwise_is_not_foreseen() {
        let output = spec("y", Datatype::Fp32, &["batch", "3"]);
        let mut foreseen = Foreseen::new(&signature(vec![output.clone()]));
        foreseen.came(0, &output, 4, &Shape::new(vec![3, 4]));
        foreseen.came(0, &output, 4, &Shape::new(vec![4, 3]));
        assert_eq!(foreseen.shape(0, &output, 4), None);
    }

    #[test]
    fn open_shapes_and_what_is_passed_through_are_not_foreseen() {
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
            let mut foreseen = Foreseen::new(&signature(vec![output.clone()]));
            foreseen.came(0, &output, 1, &Shape::new(vec![1, 4]));
            assert_eq!(foreseen.shape(0, &output, 1), None, "{output:?}");
        }
    }
}
