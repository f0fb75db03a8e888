//! A tensor's elements in JSON.

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use std::{fmt, io::Write};

use crate::tensor::{Datatype, Tensor};

/// The bytes of the elements in `json`: an array, flat or nested as deep as one likes, of `expected` numbers (or booleans).
///
/// # Errors
/// For people; the caller names the tensor.
pub(super) fn read(datatype: Datatype, json: &str, expected: usize) -> Result<Vec<u8>, String> {
    // Memory follows what has come, not what a shape claims.
    let mut elements = Elements { datatype, data: Vec::with_capacity(expected.min(json.len()) * datatype.size()) };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Element(&mut elements).deserialize(&mut deserializer);
    read.map_err(|error| format!("data is not an array of {datatype}: {error}"))?;
    let count = elements.data.len() / datatype.size();
    if count == expected {
        Ok(elements.data)
    } else {
        Err(format!("the shape has {expected} elements, data has {count}"))
    }
}

struct Elements {
    datatype: Datatype,
    data: Vec<u8>,
}

/// Reads one element, or an array of them.
struct Element<'a>(&'a mut Elements);

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an element of type {}", self.0.datatype)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while sequence.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        match self.0.datatype {
            Datatype::Bool => self.0.data.push(value.into()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match self.0.datatype {
            Datatype::Fp32 | Datatype::Fp64 => self.visit_f64(value as f64),
            _ => self.0.push_integer(value.into()),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        match self.0.datatype {
            Datatype::Fp32 | Datatype::Fp64 => self.visit_f64(value as f64),
            _ => self.0.push_integer(value.into()),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        match self.0.datatype {
            Datatype::Fp32 if (value as f32).is_infinite() => {
                return Err(E::custom(format!("{value} does not fit FP32")));
            }
            Datatype::Fp32 => self.0.data.extend((value as f32).to_le_bytes()),
            Datatype::Fp64 => self.0.data.extend(value.to_le_bytes()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
        Ok(())
    }
}

impl Elements {
    fn push_integer<E: serde::de::Error>(&mut self, value: i128) -> Result<(), E> {
        let data = &mut self.data;
        macro_rules! push {
            ($integer:ty) => {
                <$integer>::try_from(value).map(|value| data.extend(value.to_le_bytes())).ok()
            };
        }
        let pushed = match self.datatype {
            Datatype::Uint8 => push!(u8),
            Datatype::Uint16 => push!(u16),
            Datatype::Uint32 => push!(u32),
            Datatype::Uint64 => push!(u64),
            Datatype::Int8 => push!(i8),
            Datatype::Int16 => push!(i16),
            Datatype::Int32 => push!(i32),
            Datatype::Int64 => push!(i64),
            Datatype::Bool => return Err(E::custom(format!("expected true or false, got {value}"))),
            Datatype::Fp32 | Datatype::Fp64 => unreachable!("floats are not pushed as integers"),
        };
        pushed.ok_or_else(|| E::custom(format!("{value} does not fit {}", self.datatype)))
    }
}

/// Writes the elements as a flat array. Floats are the shortest text that reads back as the same value; those that JSON has no
/// number for are the tokens NaN, Infinity and -Infinity, as other servers write and Python clients read them. Strict parsers
/// don't: their clients ask for binary data.
pub(super) fn write(out: &mut Vec<u8>, tensor: &Tensor) {
    macro_rules! elements {
        ($element:ty, $write:expr) => {
            write_elements(out, tensor, |out, bytes: [u8; size_of::<$element>()]| {
                $write(out, <$element>::from_le_bytes(bytes))
            })
        };
    }
    fn integer(out: &mut Vec<u8>, value: impl fmt::Display) {
        let _ = write!(out, "{value}");
    }
    match tensor.datatype() {
        Datatype::Bool => write_elements(out, tensor, |out, [byte]| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => elements!(u8, integer),
        Datatype::Uint16 => elements!(u16, integer),
        Datatype::Uint32 => elements!(u32, integer),
        Datatype::Uint64 => elements!(u64, integer),
        Datatype::Int8 => elements!(i8, integer),
        Datatype::Int16 => elements!(i16, integer),
        Datatype::Int32 => elements!(i32, integer),
        Datatype::Int64 => elements!(i64, integer),
        Datatype::Fp32 => elements!(f32, |out, value: f32| float(out, value.into(), value)),
        Datatype::Fp64 => elements!(f64, |out, value: f64| float(out, value, value)),
    }
}

/// `wide` decides what kind of number it is, `value` prints as short as its own precision allows.
fn float(out: &mut Vec<u8>, wide: f64, value: impl fmt::Debug) {
    let _ = match wide {
        _ if wide.is_nan() => out.write(b"NaN"),
        f64::INFINITY => out.write(b"Infinity"),
        f64::NEG_INFINITY => out.write(b"-Infinity"),
        _ => write!(out, "{value:?}").map(|()| 0),
    };
}

fn write_elements<const N: usize>(out: &mut Vec<u8>, tensor: &Tensor, write: impl Fn(&mut Vec<u8>, [u8; N])) {
    out.push(b'[');
    let (elements, _) = tensor.data().as_chunks::<N>();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, *element);
    }
    out.push(b']');
}
