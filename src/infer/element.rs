//! Elements of tensors, between text, numbers and the protocol's bytes.

use half::{bf16, f16};
use std::borrow::Cow;

/// An input of a model, as its metadata has it.
pub(super) struct Spec {
    pub name: String,
    pub datatype: String,
    /// -1 is any extent.
    pub shape: Vec<i64>,
}

/// An element that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    /// Of a JSON string, or of an array of bytes.
    Bytes(Cow<'a, [u8]>),
    /// Of a CSV file, where all is text.
    Text(&'a str),
}

impl Element<'_> {
    /// Appends the element as the protocol has it in binary tensors.
    ///
    /// # Errors
    /// It is none of that datatype; for people.
    pub(super) fn push(&self, datatype: &str, out: &mut Vec<u8>) -> Result<(), String> {
        macro_rules! integer {
            ($type:ty) => {
                out.extend(
                    self.integer()
                        .and_then(|number| <$type>::try_from(number).ok())
                        .ok_or_else(|| self.misfit(datatype))?
                        .to_le_bytes(),
                )
            };
        }
        let float = || self.float().ok_or_else(|| self.misfit(datatype));
        // What is finite must not become infinite on the way.
        let narrow = |wide: f64, narrow: f64| {
            if wide.is_finite() && narrow.is_infinite() { Err(self.misfit(datatype)) } else { Ok(()) }
        };
        match datatype {
            "BOOL" => out.push(self.bool().ok_or_else(|| self.misfit(datatype))?.into()),
            "UINT8" => integer!(u8),
            "UINT16" => integer!(u16),
            "UINT32" => integer!(u32),
            "UINT64" => integer!(u64),
            "INT8" => integer!(i8),
            "INT16" => integer!(i16),
            "INT32" => integer!(i32),
            "INT64" => integer!(i64),
            "FP64" => out.extend(float()?.to_le_bytes()),
            "FP32" => {
                let number = float()?;
                narrow(number, f64::from(number as f32))?;
                out.extend((number as f32).to_le_bytes());
            }
            "FP16" => {
                let number = float()?;
                narrow(number, f16::from_f64(number).to_f64())?;
                out.extend(f16::from_f64(number).to_le_bytes());
            }
            "BF16" => {
                let number = float()?;
                narrow(number, bf16::from_f64(number).to_f64())?;
                out.extend(bf16::from_f64(number).to_le_bytes());
            }
            "BYTES" => {
                let bytes = match self {
                    Element::Bytes(bytes) => bytes,
                    Element::Text(text) => text.as_bytes(),
                    _ => return Err(self.misfit(datatype)),
                };
                let length = u32::try_from(bytes.len()).map_err(|_| "a string is longer than 4 GiB")?;
                out.extend(length.to_le_bytes());
                out.extend(bytes);
            }
            other => return Err(format!("datatype {other} can't be sent by this command")),
        }
        Ok(())
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Element::Integer(number) => Some(*number),
            // 1.0 in a column of numbers is meant as 1.
            Element::Float(number) if number.fract() == 0.0 && number.abs() < 9.1e15 => Some(*number as i128),
            Element::Text(text) => text.parse().ok().or_else(|| Element::Float(text.parse().ok()?).integer()),
            Element::Bool(_) | Element::Float(_) | Element::Bytes(_) => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Element::Integer(number) => Some(*number as f64),
            Element::Float(number) => Some(*number),
            Element::Text(text) => text.parse().ok(),
            // As JSON has no other way to write them.
            Element::Bytes(text) => match &**text {
                b"NaN" => Some(f64::NAN),
                b"Infinity" => Some(f64::INFINITY),
                b"-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            Element::Bool(_) => None,
        }
    }

    fn bool(&self) -> Option<bool> {
        match self {
            Element::Bool(value) => Some(*value),
            Element::Integer(number @ (0 | 1)) => Some(*number == 1),
            Element::Text("0" | "false" | "False" | "FALSE") => Some(false),
            Element::Text("1" | "true" | "True" | "TRUE") => Some(true),
            _ => None,
        }
    }

    fn misfit(&self, datatype: &str) -> String {
        let came = match self {
            Element::Bool(value) => value.to_string(),
            Element::Integer(number) => number.to_string(),
            Element::Float(number) => number.to_string(),
            Element::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Element::Text("") => return format!("expected {datatype}, got nothing; what is missing is written nan"),
            Element::Text(text) => format!("'{text}'"),
        };
        format!("expected {datatype}, got {came}")
    }
}

/// The elements of a tensor that came in binary, as text; strings as they are.
///
/// # Errors
/// The bytes are no whole elements of that datatype; for people.
pub(super) fn texts(datatype: &str, data: &[u8]) -> Result<Vec<String>, String> {
    macro_rules! numbers {
        ($type:ty, $text:expr) => {{
            let (elements, rest) = data.as_chunks();
            let text: fn($type) -> String = $text;
            rest.is_empty().then(|| elements.iter().map(|bytes| text(<$type>::from_le_bytes(*bytes))).collect())
        }};
    }
    let texts = match datatype {
        "BOOL" => Some(data.iter().map(|byte| if *byte == 0 { "false".into() } else { "true".into() }).collect()),
        "UINT8" => numbers!(u8, |number| number.to_string()),
        "UINT16" => numbers!(u16, |number| number.to_string()),
        "UINT32" => numbers!(u32, |number| number.to_string()),
        "UINT64" => numbers!(u64, |number| number.to_string()),
        "INT8" => numbers!(i8, |number| number.to_string()),
        "INT16" => numbers!(i16, |number| number.to_string()),
        "INT32" => numbers!(i32, |number| number.to_string()),
        "INT64" => numbers!(i64, |number| number.to_string()),
        "FP16" => numbers!(f16, |number| float(number.to_f32())),
        "BF16" => numbers!(bf16, |number| float(number.to_f32())),
        "FP32" => numbers!(f32, float),
        "FP64" => numbers!(f64, float),
        "BYTES" => strings(data),
        other => return Err(format!("datatype {other} can't be shown by this command")),
    };
    texts.ok_or_else(|| format!("{} bytes are no whole elements of {datatype}", data.len()))
}

/// The shortest text that reads back as the same number; what JSON has no number for as Python writes and reads it.
fn float<F: Copy + Into<f64> + serde::Serialize>(number: F) -> String {
    let wide: f64 = number.into();
    match wide {
        _ if wide.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        _ => serde_json::to_string(&number).unwrap_or_default(),
    }
}

fn strings(mut data: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !data.is_empty() {
        let (length, rest) = data.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        texts.push(String::from_utf8_lossy(text).into_owned());
        data = rest;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_become_what_the_datatype_has() {
        let push = |datatype: &str, element: Element<'_>| {
            let mut data = Vec::new();
            element.push(datatype, &mut data).map(|()| texts(datatype, &data).unwrap().remove(0))
        };
        for (datatype, element, expected) in [
            ("FP32", Element::Integer(3), "3.0"),
            ("FP32", Element::Text("nan"), "NaN"),
            ("FP32", Element::Text("1e30"), "1e30"),
            ("FP64", Element::Bytes(b"-Infinity".into()), "-Infinity"),
            ("FP16", Element::Float(0.5), "0.5"),
            ("BF16", Element::Float(-2.0), "-2.0"),
            ("INT64", Element::Text("-9223372036854775808"), "-9223372036854775808"),
            ("UINT64", Element::Integer(u64::MAX.into()), "18446744073709551615"),
            ("INT8", Element::Text("3.0"), "3"),
            ("UINT8", Element::Float(255.0), "255"),
            ("BOOL", Element::Text("True"), "true"),
            ("BOOL", Element::Integer(0), "false"),
            ("BYTES", Element::Text("ß"), "ß"),
            ("BYTES", Element::Bytes(b"".into()), ""),
        ] {
            assert_eq!(push(datatype, element.clone()), Ok(expected.into()), "{element:?} as {datatype}");
        }
        for (datatype, element, says) in [
            ("FP32", Element::Text("abc"), "expected FP32, got 'abc'"),
            ("FP32", Element::Text(""), "written nan"),
            ("FP32", Element::Float(1e39), "expected FP32, got 1"),
            ("FP16", Element::Integer(70_000), "expected FP16, got 70000"),
            ("UINT8", Element::Integer(-1), "expected UINT8, got -1"),
            ("INT32", Element::Float(0.5), "expected INT32, got 0.5"),
            ("INT64", Element::Text("nan"), "expected INT64"),
            ("BOOL", Element::Integer(2), "expected BOOL, got 2"),
            ("BYTES", Element::Integer(2), "expected BYTES, got 2"),
            ("FP8", Element::Integer(2), "datatype FP8"),
        ] {
            assert!(push(datatype, element.clone()).unwrap_err().contains(says), "{element:?} as {datatype}");
        }
        assert!(texts("FP32", &[0; 5]).is_err() && texts("BYTES", &[1, 0, 0, 0]).is_err());
    }
}
