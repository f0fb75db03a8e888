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
    if parts
        .iter()
        .any(|part| part.datatype != first.datatype || part.shape.extents().get(1..) != Some(inner))
    {
        return None;
    }
    let rows = parts.iter().map(|part| part.shape.rows()).sum();
    let mut data = BytesMut::with_capacity(parts.iter().map(|part| part.data.len()).sum());
    for part in parts {
        data.extend_from_slice(&part.data);
    }
    let shape: Shape = first.shape.with_rows(rows);
    Some(Tensor {
        datatype: first.datatype,
        shape,
        data: Bytes::from(data),
    })
}
