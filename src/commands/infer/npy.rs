//! Arrays that NumPy saved.

use half::f16;
use std::io::{Cursor, Read};

use super::element::Element;
use crate::tensor::Datatype;

/// First bytes of a file that numpy.save wrote.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// First bytes of a file that numpy.savez wrote: it is a ZIP archive.
pub(super) const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// An array.
pub(super) struct Array {
    pub shape: Vec<usize>,
    /// BYTES stands for strings of a fixed width.
    pub datatype: Datatype,
    kind: String,
    size: usize,
    pub data: Vec<u8>,
}

/// Kinds of elements of a fixed datatype, as NumPy writes them.
const KINDS: [(&str, Datatype, usize); 12] = [
    ("b1", Datatype::Bool, 1),
    ("u1", Datatype::Uint8, 1),
    ("u2", Datatype::Uint16, 2),
    ("u4", Datatype::Uint32, 4),
    ("u8", Datatype::Uint64, 8),
    ("i1", Datatype::Int8, 1),
    ("i2", Datatype::Int16, 2),
    ("i4", Datatype::Int32, 4),
    ("i8", Datatype::Int64, 8),
    ("f2", Datatype::Fp16, 2),
    ("f4", Datatype::Fp32, 4),
    ("f8", Datatype::Fp64, 8),
];

impl Array {
    /// Reads a file that numpy.save wrote.
    ///
    /// # Errors
    /// For people.
    pub(super) fn parse(file: &[u8]) -> Result<Self, String> {
        let (header, data) = header(file).ok_or("the NPY header is cut short or not readable")?;
        let descr = field(header, "descr").ok_or_else(|| format!("the NPY header has no descr: {header}"))?;
        let Some(descr) = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map(|(descr, _)| descr)
        else {
            return Err("arrays of records are not supported: save one array per input".into());
        };
        if field(header, "fortran_order").is_some_and(|value| value.starts_with("True")) {
            return Err("the array is in Fortran order: save numpy.ascontiguousarray(array)".into());
        }
        let shape =
            field(header, "shape").and_then(shape).ok_or_else(|| format!("the NPY header has no shape: {header}"))?;
        let (order, kind) = descr.split_at_checked(1).unwrap_or_default();
        let (datatype, size) = match KINDS.iter().find(|(name, ..)| *name == kind) {
            _ if order == ">" => return Err(format!("its type is {descr}, big-endian: save it as little-endian")),
            Some((_, datatype, size)) => (*datatype, *size),
            None => match (kind.split_at_checked(1), kind.get(1..).and_then(|width| width.parse().ok())) {
                (Some(("U", _)), Some(width)) => {
                    (Datatype::Bytes, 4usize.checked_mul(width).ok_or("its strings are too long")?)
                }
                (Some(("S", _)), Some(width)) => (Datatype::Bytes, width),
                _ => {
                    return Err(format!(
                        "its type is {descr}; supported are booleans, integers, f2, f4, f8 and strings"
                    ));
                }
            },
        };
        let elements = shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
        let expected = elements.and_then(|elements| elements.checked_mul(size));
        if expected != Some(data.len()) || size == 0 {
            let expected = expected.map_or("far more".into(), |expected| expected.to_string());
            return Err(format!("shape {shape:?} of {descr} needs {expected} bytes, the file has {}", data.len()));
        }
        Ok(Array { shape, datatype, kind: kind.into(), size, data: data.into() })
    }

    /// Elements of the array, in order.
    pub(super) fn elements(&self) -> impl Iterator<Item = Element<'static>> {
        self.data.chunks_exact(self.size).map(|bytes| element(&self.kind, bytes))
    }
}

fn element(kind: &str, bytes: &[u8]) -> Element<'static> {
    /// Bytes of an element; their number is that of its kind.
    fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
        bytes.first_chunk().copied().unwrap_or([0; N])
    }
    match kind {
        "b1" => Element::Bool(bytes != [0]),
        "u1" => Element::Integer(u8::from_le_bytes(fixed(bytes)).into()),
        "u2" => Element::Integer(u16::from_le_bytes(fixed(bytes)).into()),
        "u4" => Element::Integer(u32::from_le_bytes(fixed(bytes)).into()),
        "u8" => Element::Integer(u64::from_le_bytes(fixed(bytes)).into()),
        "i1" => Element::Integer(i8::from_le_bytes(fixed(bytes)).into()),
        "i2" => Element::Integer(i16::from_le_bytes(fixed(bytes)).into()),
        "i4" => Element::Integer(i32::from_le_bytes(fixed(bytes)).into()),
        "i8" => Element::Integer(i64::from_le_bytes(fixed(bytes)).into()),
        "f2" => Element::Float(f16::from_le_bytes(fixed(bytes)).into()),
        "f4" => Element::Float(f32::from_le_bytes(fixed(bytes)).into()),
        "f8" => Element::Float(f64::from_le_bytes(fixed(bytes))),
        // Shorter strings are filled up with zeros.
        _ if kind.starts_with('U') => {
            let points = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
            let text: String = points.map(|point| char::from_u32(point).unwrap_or('\u{fffd}')).collect();
            Element::Bytes(text.trim_end_matches('\0').into())
        }
        _ => {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            Element::Bytes(bytes[..end].into())
        }
    }
}

/// The header's text, and what follows it.
fn header(file: &[u8]) -> Option<(&str, &[u8])> {
    let rest = file.strip_prefix(MAGIC)?;
    let ([major, _minor], rest) = rest.split_first_chunk()?;
    let (length, rest) = if *major == 1 {
        let (length, rest) = rest.split_first_chunk()?;
        (u16::from_le_bytes(*length).into(), rest)
    } else {
        let (length, rest) = rest.split_first_chunk()?;
        (u32::from_le_bytes(*length) as usize, rest)
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

/// Text behind a key of the header. The header is a Python dictionary that numpy.save always writes in the same way.
fn field<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    header.split_once(&format!("'{key}':")).map(|(_, value)| value.trim_start())
}

fn shape(text: &str) -> Option<Vec<usize>> {
    let (extents, _) = text.strip_prefix('(')?.split_once(')')?;
    extents.split(',').map(str::trim).filter(|extent| !extent.is_empty()).map(|extent| extent.parse().ok()).collect()
}

/// Reads a file that numpy.savez wrote: arrays with their names.
///
/// # Errors
/// For people.
pub(super) fn archive(file: &[u8]) -> Result<Vec<(String, Array)>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("the NPZ archive can't be read: {error}");
    let mut archive = zip::ZipArchive::new(Cursor::new(file)).map_err(|error| wrong(&error))?;
    let mut arrays = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| wrong(&error))?;
        let name = entry.name().map_err(|error| wrong(&error))?.trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        let array = Array::parse(&bytes).map_err(|why| format!("array '{name}': {why}"))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}
