//! Rows: cutting tensors along axis 0 and joining them again.

use bytes::{Bytes, BytesMut};

use super::{Shape, Tensor};

/// Rows `start..start + rows` of a tensor: a view, nothing is copied. The tensor has at least rank 1 and that many rows.
pub fn slice_rows(tensor: &Tensor, start: usize, rows: usize) -> Tensor {
    let row_bytes = tensor.data.len().checked_div(tensor.shape.rows()).unwrap_or(0);
    Tensor {
        datatype: tensor.datatype,
        shape: tensor.shape.with_rows(rows),
        data: tensor.data.slice(start * row_bytes..(start + rows) * row_bytes),
    }
}

/// Tensors of one datatype and equal inner shape, joined along axis 0. `None` where they don't fit together.
pub fn concatenate(parts: &[&Tensor]) -> Option<Tensor> {
    let first = *parts.first()?;
    let inner = first.shape.extents().get(1..)?;
    if parts.iter().any(|part| part.datatype != first.datatype || part.shape.extents().get(1..) != Some(inner)) {
        return None;
    }
    let rows = parts.iter().map(|part| part.shape.rows()).sum();
    let mut data = BytesMut::with_capacity(parts.iter().map(|part| part.data.len()).sum());
    for part in parts {
        data.extend_from_slice(&part.data);
    }
    let shape: Shape = first.shape.with_rows(rows);
    Some(Tensor { datatype: first.datatype, shape, data: Bytes::from(data) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Datatype;
    use proptest::prelude::*;

    /// A tensor of distinct bytes, and how its rows are cut.
    fn tensor_and_cuts() -> impl Strategy<Value = (Tensor, Vec<usize>)> {
        let datatype = prop::sample::select(vec![Datatype::Uint8, Datatype::Int16, Datatype::Fp32, Datatype::Fp64]);
        let inner = prop::collection::vec(0..4usize, 0..3);
        (datatype, inner, prop::collection::vec(0..5usize, 1..6)).prop_map(|(datatype, inner, cuts)| {
            let mut extents = vec![cuts.iter().sum()];
            extents.extend(inner);
            let shape = Shape::new(extents);
            let data = (0..shape.bytes(datatype).unwrap()).map(|index| (index % 251) as u8).collect::<Vec<_>>();
            (Tensor::new(datatype, shape, Bytes::from(data)).unwrap(), cuts)
        })
    }

    proptest! {
        #[test]
        fn joining_the_pieces_gives_the_whole((tensor, cuts) in tensor_and_cuts()) {
            let mut start = 0;
            let mut pieces = Vec::new();
            for rows in cuts {
                let piece = slice_rows(&tensor, start, rows);
                prop_assert_eq!(piece.shape().rows(), rows);
                prop_assert_eq!(piece.shape().bytes(piece.datatype()).unwrap(), piece.data().len());
                pieces.push(piece);
                start += rows;
            }
            let joined = concatenate(&pieces.iter().collect::<Vec<_>>());
            prop_assert_eq!(joined, Some(tensor));
        }
    }

    #[test]
    fn different_tensors_are_not_joined() {
        let tensor = |datatype, extents: &[usize]| {
            let shape = Shape::new(extents.to_vec());
            let data = vec![0; shape.bytes(datatype).unwrap()];
            Tensor::new(datatype, shape, Bytes::from(data)).unwrap()
        };
        let one = tensor(Datatype::Fp32, &[1, 2]);
        for other in [tensor(Datatype::Int32, &[1, 2]), tensor(Datatype::Fp32, &[1, 3]), tensor(Datatype::Fp32, &[1])] {
            assert_eq!(concatenate(&[&one, &other]), None);
        }
        assert_eq!(concatenate(&[]), None);
    }
}
