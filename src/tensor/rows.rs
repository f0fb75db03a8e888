//! Rows: cutting tensors along axis 0 and joining them again.

use bytes::{Bytes, BytesMut};

use super::{BytesElements, Marks, Shape, Tensor};

/// Cuts a tensor along axis 0, from the first row on. The pieces are views: nothing is copied.
#[derive(Debug, Clone)]
pub struct RowCutter<'a> {
    tensor: &'a Tensor,
    /// Position of the next piece in the data.
    start: usize,
    /// Elements before the next piece, where rows differ.
    elements: usize,
    /// Bytes of a row in the data; `None` where rows differ (BYTES).
    row_bytes: Option<usize>,
}

impl<'a> RowCutter<'a> {
    /// Before the first row.
    pub fn new(tensor: &'a Tensor) -> Self {
        let row_bytes = tensor.data.len().checked_div(tensor.shape.rows()).unwrap_or(0);
        RowCutter { tensor, start: 0, elements: 0, row_bytes: tensor.datatype.size().map(|_| row_bytes) }
    }

    /// The next so many rows. The tensor has at least rank 1 and that many rows left.
    pub fn take(&mut self, rows: usize) -> Tensor {
        let shape = self.tensor.shape.with_rows(rows);
        let end = match self.row_bytes {
            Some(row_bytes) => self.start + rows * row_bytes,
            None => {
                // A piece of a tensor has no more elements than the tensor, which have been counted.
                let elements = self.elements + shape.elements().unwrap_or(0);
                let (end, _) = self.position(elements);
                self.elements = elements;
                end
            }
        };
        let data = self.tensor.data.slice(self.start..end);
        self.start = end;
        Tensor { datatype: self.tensor.datatype, shape, data, marks: Marks::default() }
    }

    /// The position of an element behind the start, and the number of elements that were walked over to find that out.
    fn position(&self, element: usize) -> (usize, usize) {
        let marked = self.tensor.marks.before(element).filter(|(before, _)| *before > self.elements);
        let (before, position) = marked.unwrap_or((self.elements, self.start));
        let rest = &self.tensor.data[position..];
        let mut elements = BytesElements::new(rest);
        let walked = element - before;
        if let Some(last) = walked.checked_sub(1) {
            elements.nth(last);
        }
        (position + rest.len() - elements.left(), walked)
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
    Some(Tensor { datatype: first.datatype, shape, data: Bytes::from(data), marks: Marks::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{
        Datatype,
        bytes_elements::{MARK_INTERVAL, check_with_marks},
        push_bytes_element,
    };
    use proptest::prelude::*;

    /// Elements between two marks of small tensors.
    const SMALL_INTERVAL: usize = 4;

    /// A small tensor of BYTES that has marks, as a large one does.
    fn marked(tensor: Tensor) -> Tensor {
        let marks = check_with_marks(&tensor.shape, &tensor.data, SMALL_INTERVAL).unwrap();
        Tensor { marks, ..tensor }
    }

    /// A tensor of distinct bytes, and how its rows are cut.
    fn tensor_and_cuts() -> impl Strategy<Value = (Tensor, Vec<usize>)> {
        let datatypes = vec![Datatype::Uint8, Datatype::Int16, Datatype::Fp32, Datatype::Fp64, Datatype::Bytes];
        let datatype = prop::sample::select(datatypes);
        let inner = prop::collection::vec(0..4usize, 0..3);
        (datatype, inner, prop::collection::vec(0..5usize, 1..6)).prop_map(|(datatype, inner, cuts)| {
            let mut extents = vec![cuts.iter().sum()];
            extents.extend(inner);
            let shape = Shape::new(extents);
            let bytes = |length: usize| (0..length).map(|index| (index % 251) as u8).collect::<Vec<_>>();
            let data = shape.bytes(datatype).unwrap().map(bytes).unwrap_or_else(|| {
                let mut data = Vec::new();
                for index in 0..shape.elements().unwrap() {
                    push_bytes_element(&mut data, &bytes(index * 7 % 5)).unwrap();
                }
                data
            });
            let tensor = Tensor::new(datatype, shape, Bytes::from(data)).unwrap();
            (if datatype == Datatype::Bytes { marked(tensor) } else { tensor }, cuts)
        })
    }

    proptest! {
        #[test]
        fn joined_pieces_equal_the_whole_tensor((tensor, cuts) in tensor_and_cuts()) {
            let mut cutter = RowCutter::new(&tensor);
            let mut pieces = Vec::new();
            for rows in cuts {
                let piece = cutter.take(rows);
                prop_assert_eq!(piece.shape().rows(), rows);
                let checked = Tensor::new(piece.datatype(), piece.shape().clone(), piece.data().clone());
                prop_assert_eq!(checked.as_ref(), Ok(&piece));
                pieces.push(piece);
            }
            let joined = concatenate(&pieces.iter().collect::<Vec<_>>());
            prop_assert_eq!(joined, Some(tensor));
        }
    }

    #[test]
    fn cutter_walks_over_few_elements_of_a_large_tensor() {
        let (rows, inner) = (3, 101);
        let mut data = Vec::new();
        for index in 0..rows * inner {
            push_bytes_element(&mut data, &vec![0; index % 7]).unwrap();
        }
        let shape = Shape::new(vec![rows, inner]);
        let tensor = Tensor::new(Datatype::Bytes, shape, Bytes::from(data)).unwrap();
        let (unmarked, tensor) = (tensor.clone(), marked(tensor));
        let (cutter, slow) = (RowCutter::new(&tensor), RowCutter::new(&unmarked));
        for element in 0..=rows * inner {
            let (position, walked) = cutter.position(element);
            assert!(walked < SMALL_INTERVAL, "{element}: {walked}");
            assert_eq!((position, element), slow.position(element));
        }
    }

    #[test]
    fn large_tensor_is_marked_when_it_is_made() {
        let elements = 5 * MARK_INTERVAL;
        let mut data = Vec::new();
        for index in 0..elements {
            push_bytes_element(&mut data, &vec![0; index % 7]).unwrap();
        }
        let tensor = Tensor::new(Datatype::Bytes, Shape::new(vec![elements]), Bytes::from(data)).unwrap();
        let cutter = RowCutter::new(&tensor);
        for (element, walked) in [(1, 1), (MARK_INTERVAL + 1, 1), (elements - 1, MARK_INTERVAL - 1), (elements, 0)] {
            assert_eq!(cutter.position(element).1, walked, "{element}");
        }
        assert_eq!(cutter.position(elements).0, tensor.data.len());
    }

    #[test]
    fn different_tensors_are_not_joined() {
        let tensor = |datatype, extents: &[usize]| {
            let shape = Shape::new(extents.to_vec());
            let data = vec![0; shape.bytes(datatype).unwrap().unwrap()];
            Tensor::new(datatype, shape, Bytes::from(data)).unwrap()
        };
        let one = tensor(Datatype::Fp32, &[1, 2]);
        for other in [tensor(Datatype::Int32, &[1, 2]), tensor(Datatype::Fp32, &[1, 3]), tensor(Datatype::Fp32, &[1])] {
            assert_eq!(concatenate(&[&one, &other]), None);
        }
        assert_eq!(concatenate(&[]), None);
    }
}
