//! A tensor's elements in JSON.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, general_purpose::PAD},
};
use half::{bf16, f16};
use std::{fmt, io::Write, str::FromStr};

use super::reader::{Reader, ValueKind};
use crate::{
    error::{Error, Result},
    tensor::{BytesElements, Datatype, Shape, Tensor, push_bytes_element},
};

/// The elements of a tensor whose shape is not settled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elements {
    datatype: Datatype,
    data: Vec<u8>,
    count: usize,
}

/// Base64 that is written with padding, and read with and without: many encoders leave it out.
const CODEC: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Where an object stands in the place of an element of BYTES, the key of its only value: base64, as in TF Serving.
const BASE64: &str = "b64";

impl Elements {
    /// Reads an array of elements, flat or nested as deep as one likes, or a single element. There will be about `expected`.
    ///
    /// FP32, FP64, FP16 and BF16 are numbers, NaN, Infinity and -Infinity among them, in quotes or not (strict JSON has no
    /// number for them); BOOL is true or false; BYTES is a string, or `{"b64": ".."}`.
    ///
    /// # Errors
    /// For people: what was expected, what came, and where.
    pub fn read(reader: &mut Reader<'_>, datatype: Datatype, expected: usize) -> Result<Self, String> {
        // Memory follows what has come, not what a shape claims: an element takes two characters at least.
        let capacity = expected.min(reader.left() / 2 + 1).saturating_mul(datatype.size().unwrap_or(0));
        let data = Vec::with_capacity(capacity.min(reader.left().saturating_mul(4)));
        let mut elements = Elements { datatype, data, count: 0 };
        let mut nesting = Nesting::default();
        macro_rules! elements {
            ($read:expr) => {
                elements.read_nested(reader, &mut nesting, 0, &mut |reader: &mut Reader<'_>, data: &mut Vec<u8>| {
                    data.extend_from_slice(&$read(reader)?.to_le_bytes());
                    Ok(())
                })
            };
        }
        match datatype {
            Datatype::Uint8 => elements!(|reader| integer::<u8>(reader, datatype)),
            Datatype::Uint16 => elements!(|reader| integer::<u16>(reader, datatype)),
            Datatype::Uint32 => elements!(|reader| integer::<u32>(reader, datatype)),
            Datatype::Uint64 => elements!(|reader| integer::<u64>(reader, datatype)),
            Datatype::Int8 => elements!(|reader| integer::<i8>(reader, datatype)),
            Datatype::Int16 => elements!(|reader| integer::<i16>(reader, datatype)),
            Datatype::Int32 => elements!(|reader| integer::<i32>(reader, datatype)),
            Datatype::Int64 => elements!(|reader| integer::<i64>(reader, datatype)),
            Datatype::Fp32 => elements!(|reader| float(reader, datatype, |value: f32| (value, value.is_infinite()))),
            Datatype::Fp64 => elements!(|reader| float(reader, datatype, |value: f64| (value, value.is_infinite()))),
            Datatype::Fp16 => elements!(|reader| float(reader, datatype, |value| {
                let half = f16::from_f64(value);
                (half, half.is_infinite())
            })),
            Datatype::Bf16 => elements!(|reader| float(reader, datatype, |value| {
                let half = bf16::from_f64(value);
                (half, half.is_infinite())
            })),
            Datatype::Bool => elements!(|reader| boolean(reader).map(u8::from)),
            Datatype::Bytes => elements.read_nested(reader, &mut nesting, 0, &mut read_bytes),
        }?;
        // Not as many came: thousands of tensors that claim much would each hold it, up to the end of the address space.
        if elements.data.len() < elements.data.capacity() / 2 {
            elements.data.shrink_to_fit();
        }
        Ok(elements)
    }

    /// Number of elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The elements as a tensor of this shape.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn into_tensor(self, shape: Shape) -> Result<Tensor> {
        let expected = shape.elements()?;
        if expected != self.count {
            let count = self.count;
            return Err(Error::invalid(format!("the shape has {expected} elements, data has {count}")));
        }
        Tensor::new(self.datatype, shape, self.data.into())
    }

    fn read_nested(
        &mut self,
        reader: &mut Reader<'_>,
        nesting: &mut Nesting,
        depth: usize,
        read: &mut impl FnMut(&mut Reader<'_>, &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), String> {
        if reader.peek()? == ValueKind::Array {
            let before = reader.clone();
            let mut length = 0;
            reader.array(|reader| {
                length += 1;
                self.read_nested(reader, nesting, depth + 1, read)
            })?;
            return nesting.array(depth, length).map_err(|why| before.error(why));
        }
        if nesting.values.is_none_or(|values| values != depth) {
            nesting.value(depth).map_err(|why| reader.error(why))?;
        }
        read(reader, &mut self.data)?;
        self.count += 1;
        Ok(())
    }
}

/// The form of nested arrays, which is the same everywhere: with rows of different lengths, elements would be those of other rows.
#[derive(Default)]
struct Nesting {
    /// Elements of the first array at each depth.
    lengths: Vec<Option<usize>>,
    /// Depth of the first element that is no array.
    values: Option<usize>,
}

impl Nesting {
    fn array(&mut self, depth: usize, length: usize) -> Result<(), String> {
        if self.lengths.len() <= depth {
            self.lengths.resize(depth + 1, None);
        }
        match *self.lengths[depth].get_or_insert(length) {
            first if first == length => Ok(()),
            first => Err(format!("expected {first} elements as in the array before, got {length}")),
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), String> {
        match *self.values.get_or_insert(depth) {
            first if first == depth => Ok(()),
            first => Err(format!("expected values inside {first} arrays as the first is, got one inside {depth}")),
        }
    }
}

fn integer<T: FromStr>(reader: &mut Reader<'_>, datatype: Datatype) -> Result<T, String> {
    let before = reader.clone();
    if reader.peek()? != ValueKind::Number {
        return Err(reader.unexpected("a whole number"));
    }
    let text = reader.number()?;
    text.parse().map_err(|_| match text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        true => before.error(format_args!("{text} does not fit {datatype}")),
        false => before.error(format_args!("expected a whole number, got {text}")),
    })
}

/// A float, as `convert` makes it of a wider one; `convert` also reports if the float is infinite.
fn float<W: FromStr, T>(
    reader: &mut Reader<'_>,
    datatype: Datatype,
    convert: impl FnOnce(W) -> (T, bool),
) -> Result<T, String> {
    let before = reader.clone();
    let kind = reader.peek()?;
    let quoted;
    let text = match kind {
        ValueKind::Number => reader.number()?,
        ValueKind::String => {
            quoted = reader.string()?;
            &*quoted
        }
        ValueKind::Null => return Err(reader.error("expected a number, got null (a missing one is sent as NaN)")),
        _ => return Err(reader.unexpected("a number")),
    };
    // Rust's words for values that are no numbers are the protocol's too. In quotes stands nothing else.
    let is_allowed = kind == ValueKind::Number || matches!(text, "NaN" | "Infinity" | "-Infinity");
    match text.parse().ok().filter(|_| is_allowed).map(convert) {
        Some((_, true)) if !text.ends_with("Infinity") => {
            Err(before.error(format_args!("{text} does not fit {datatype}")))
        }
        Some((value, _)) => Ok(value),
        None => Err(before.unexpected("a number")),
    }
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, String> {
    match reader.peek()? {
        ValueKind::Boolean => reader.boolean(),
        _ => Err(reader.unexpected("true or false")),
    }
}

fn read_bytes(reader: &mut Reader<'_>, data: &mut Vec<u8>) -> Result<(), String> {
    match reader.peek()? {
        ValueKind::String => push_bytes_element(data, reader.string()?.as_bytes()),
        ValueKind::Object => {
            let before = reader.clone();
            let mut decoded = None;
            reader.object(|reader, key| {
                if key != BASE64 || decoded.is_some() {
                    return Err(reader.error(format_args!("expected one key '{BASE64}', got '{key}'")));
                }
                let text = reader.string()?;
                let bytes = CODEC.decode(text.as_bytes());
                decoded = Some(bytes.map_err(|error| reader.error(no_base64(&text, &error)))?);
                Ok(())
            })?;
            let decoded = decoded.ok_or_else(|| before.error(format_args!("expected a key '{BASE64}', got none")))?;
            push_bytes_element(data, &decoded)
        }
        _ => Err(reader.unexpected("a string")),
    }
}

/// Why a text is no base64.
fn no_base64(text: &str, error: &impl fmt::Display) -> String {
    let is_of_urls = text.contains(['-', '_']);
    let advice = if is_of_urls { "; the alphabet is the one with + and /, not that of URLs" } else { "" };
    format!("'{BASE64}' is no base64: {error}{advice}")
}

/// Writes the elements as a flat array. Floats are the shortest text that reads back as the same value; those that JSON has no
/// number for are the tokens NaN, Infinity and -Infinity, as other servers write and Python clients read them. Strict parsers
/// don't: their clients ask for binary data. An element of BYTES is a string, or `{"b64": ".."}` where it is no UTF-8.
pub fn write_elements(out: &mut Vec<u8>, tensor: &Tensor) {
    write_elements_while(out, tensor, &mut |_| true);
}

/// Bytes of text between two questions whether there is room for more.
const PIECE: usize = 64 << 10;

/// Writes the elements as [`write_elements`] does, as long as there is room: `has_room` is asked each time that some 64 KiB were
/// written, with all that was written. False where it said no: then the text ends in the middle.
pub fn write_elements_while(out: &mut Vec<u8>, tensor: &Tensor, has_room: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    macro_rules! elements {
        ($element:ty, $write:expr) => {{
            let (elements, _) = tensor.data().as_chunks::<{ size_of::<$element>() }>();
            write_all(out, has_room, elements.iter(), |out, bytes| $write(out, <$element>::from_le_bytes(*bytes)))
        }};
    }
    match tensor.datatype() {
        Datatype::Bool => write_all(out, has_room, tensor.data().iter(), |out, &byte| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
        }),
        Datatype::Uint8 => elements!(u8, write_integer),
        Datatype::Uint16 => elements!(u16, write_integer),
        Datatype::Uint32 => elements!(u32, write_integer),
        Datatype::Uint64 => elements!(u64, write_integer),
        Datatype::Int8 => elements!(i8, write_integer),
        Datatype::Int16 => elements!(i16, write_integer),
        Datatype::Int32 => elements!(i32, write_integer),
        Datatype::Int64 => elements!(i64, write_integer),
        Datatype::Fp32 => elements!(f32, |out, value: f32| write_float(out, value.into(), value)),
        Datatype::Fp64 => elements!(f64, |out, value: f64| write_float(out, value, value)),
        // Every half is an FP32, and what reads back as that reads back as the half.
        Datatype::Fp16 => elements!(f16, |out, value: f16| write_float(out, value.into(), value.to_f32())),
        Datatype::Bf16 => elements!(bf16, |out, value: bf16| write_float(out, value.into(), value.to_f32())),
        Datatype::Bytes => write_all(out, has_room, BytesElements::new(tensor.data()), write_bytes),
    }
}

/// Bytes of text that the elements of a tensor take at least, brackets aside. The elements of BYTES are not looked at.
pub fn min_json_bytes(tensor: &Tensor) -> usize {
    let data = tensor.data().len();
    // With the comma behind it. The shortest float is 0.0, and an element of BYTES has quotes.
    let (size, text) = match tensor.datatype() {
        Datatype::Bool => (1, 5),
        Datatype::Bytes => return data / 4 * 3,
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => (tensor.datatype().size().unwrap_or(1), 4),
        other => (other.size().unwrap_or(1), 2),
    };
    (data / size).saturating_mul(text).saturating_sub(1)
}

fn write_all<T>(
    out: &mut Vec<u8>,
    has_room: &mut dyn FnMut(&[u8]) -> bool,
    elements: impl Iterator<Item = T>,
    write: impl Fn(&mut Vec<u8>, T),
) -> bool {
    let mut next_question = out.len() + PIECE;
    out.push(b'[');
    for (index, element) in elements.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, element);
        if out.len() >= next_question {
            if !has_room(out) {
                return false;
            }
            next_question = out.len() + PIECE;
        }
    }
    out.push(b']');
    true
}

// Writing into memory can't fail.

fn write_integer(out: &mut Vec<u8>, value: impl fmt::Display) {
    let _ = write!(out, "{value}");
}

/// `wide` decides what kind of number it is, `value` prints as short as its own precision allows.
fn write_float(out: &mut Vec<u8>, wide: f64, value: impl fmt::Debug) {
    let _ = match wide {
        _ if wide.is_nan() => out.write_all(b"NaN"),
        f64::INFINITY => out.write_all(b"Infinity"),
        f64::NEG_INFINITY => out.write_all(b"-Infinity"),
        _ => write!(out, "{value:?}"),
    };
}

fn write_bytes(out: &mut Vec<u8>, element: &[u8]) {
    let _ = match str::from_utf8(element) {
        Ok(text) => serde_json::to_writer(out, text).map_err(Into::into),
        Err(_) => write!(out, "{{\"{BASE64}\":\"{}\"}}", CODEC.encode(element)),
    };
}

#[cfg(test)]
mod tests;
