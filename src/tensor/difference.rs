//! Compares two tensors as answers.

use half::{bf16, f16};

use super::{BytesElements, Datatype, Tensor};

/// Largest distance between floats that are still the same answer: `absolute + relative * |expected|`. Integers, booleans and
/// BYTES must be equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Whatever the size of the value.
    pub absolute: f64,
    /// As a share of the value.
    pub relative: f64,
}

/// Two elements that are not the same answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Index of the element, in row-major order.
    pub element: usize,
    /// The expected value, for people.
    pub expected: String,
    /// The value that came.
    pub got: String,
}

/// The first pair of elements that are not the same answer. The tensors have one datatype and shape. NaN is the same as NaN,
/// infinities are by their sign.
pub fn first_difference(expected: &Tensor, got: &Tensor, tolerance: Tolerance) -> Option<Difference> {
    let close = |a: f64, b: f64| {
        let within = || (a - b).abs() <= tolerance.absolute + tolerance.relative * a.abs();
        a == b || a.is_nan() && b.is_nan() || a.is_finite() && within()
    };
    macro_rules! floats {
        ($float:ty) => {
            first(expected, got, <$float>::from_le_bytes, |a, b| close(f64::from(*a), f64::from(*b)))
        };
    }
    macro_rules! integers {
        ($integer:ty) => {
            first(expected, got, <$integer>::from_le_bytes, |a, b| a == b)
        };
    }
    match expected.datatype() {
        Datatype::Fp16 => floats!(f16),
        Datatype::Bf16 => floats!(bf16),
        Datatype::Fp32 => floats!(f32),
        Datatype::Fp64 => floats!(f64),
        Datatype::Bool => first(expected, got, |[byte]| byte != 0, |a, b| a == b),
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Bytes => {
            let mut pairs = BytesElements::new(expected.data()).zip(BytesElements::new(got.data())).enumerate();
            let (element, (a, b)) = pairs.find(|(_, (a, b))| a != b)?;
            Some(Difference { element, expected: shown(a), got: shown(b) })
        }
    }
}

fn first<T: std::fmt::Display, const N: usize>(
    expected: &Tensor,
    got: &Tensor,
    read: fn([u8; N]) -> T,
    same: impl Fn(&T, &T) -> bool,
) -> Option<Difference> {
    let (expected, _) = expected.data().as_chunks::<N>();
    let (got, _) = got.data().as_chunks::<N>();
    let pairs = expected.iter().zip(got).map(|(a, b)| (read(*a), read(*b)));
    let (element, (a, b)) = pairs.enumerate().find(|(_, (a, b))| !same(a, b))?;
    Some(Difference { element, expected: a.to_string(), got: b.to_string() })
}

/// Bytes as messages show them: text in quotes, and not all of a long one.
fn shown(bytes: &[u8]) -> String {
    const MAX_SHOWN_BYTES: usize = 64;
    let ellipsis = if bytes.len() > MAX_SHOWN_BYTES { "..." } else { "" };
    format!("\"{}\"{ellipsis}", bytes[..bytes.len().min(MAX_SHOWN_BYTES)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, push_bytes_element};

    fn floats(values: &[f32]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(Datatype::Fp32, Shape::new(vec![values.len()]), data.into()).unwrap()
    }

    #[test]
    fn floats_within_the_tolerance_are_the_same() {
        let tolerance = Tolerance { absolute: 0.1, relative: 0.01 };
        let difference = |a: &[f32], b: &[f32]| first_difference(&floats(a), &floats(b), tolerance);
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        assert_eq!(difference(&[0.0, 100.0, nan, infinity], &[0.09, 101.0, nan, infinity]), None);
        for (a, b) in [(0.0, 0.11), (100.0, 101.2), (nan, 0.0), (0.0, nan), (infinity, -infinity), (infinity, 1e38)] {
            let found = difference(&[1.0, a], &[1.0, b]);
            let expected = Difference { element: 1, expected: a.to_string(), got: b.to_string() };
            assert_eq!(found, Some(expected), "{a} {b}");
        }
    }

    #[test]
    fn bytes_are_compared_whole() {
        let tensor = |elements: &[&[u8]]| {
            let mut data = Vec::new();
            elements.iter().for_each(|element| push_bytes_element(&mut data, element).unwrap());
            Tensor::new(Datatype::Bytes, Shape::new(vec![elements.len()]), data.into()).unwrap()
        };
        let tolerance = Tolerance { absolute: 1.0, relative: 1.0 };
        let (a, b) = (tensor(&[b"x", b"a\0"]), tensor(&[b"x", b"a\xff"]));
        assert_eq!(first_difference(&a, &a, tolerance), None);
        let expected = Difference { element: 1, expected: "\"a\\x00\"".into(), got: "\"a\\xff\"".into() };
        assert_eq!(first_difference(&a, &b, tolerance), Some(expected));
    }
}
