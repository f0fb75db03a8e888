//! Converts elements of NPY and CSV files to elements of a tensor.

use half::{bf16, f16};

use crate::tensor::{Datatype, push_bytes_element};

/// An input of a model, as its metadata has it.
pub(super) struct InputSpec {
    pub name: String,
    pub datatype: Datatype,
    /// -1 is any extent.
    pub shape: Vec<i64>,
    /// The model has a default for the input.
    pub is_optional: bool,
}

/// An element that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Element<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Bytes(Vec<u8>),
    /// Cell of a CSV file, where every value is text.
    Text(&'a str),
}

impl Element<'_> {
    /// Appends the element.
    ///
    /// # Errors
    /// The element does not fit the datatype; the message is for people.
    pub(super) fn push(&self, datatype: Datatype, out: &mut Vec<u8>) -> Result<(), String> {
        let misfit = || self.misfit(datatype);
        macro_rules! integer {
            ($type:ty) => {{
                let number = self.integer().and_then(|number| <$type>::try_from(number).ok());
                out.extend(number.ok_or_else(misfit)?.to_le_bytes());
            }};
        }
        // A finite value must not become infinite in the conversion.
        macro_rules! float {
            ($convert:expr) => {{
                let number = self.float().ok_or_else(misfit)?;
                let converted = $convert(number);
                if number.is_finite() && converted.is_infinite() {
                    return Err(misfit());
                }
                out.extend(converted.to_le_bytes());
            }};
        }
        match datatype {
            Datatype::Bool => out.push(self.bool().ok_or_else(misfit)?.into()),
            Datatype::Uint8 => integer!(u8),
            Datatype::Uint16 => integer!(u16),
            Datatype::Uint32 => integer!(u32),
            Datatype::Uint64 => integer!(u64),
            Datatype::Int8 => integer!(i8),
            Datatype::Int16 => integer!(i16),
            Datatype::Int32 => integer!(i32),
            Datatype::Int64 => integer!(i64),
            Datatype::Fp64 => float!(|number: f64| number),
            Datatype::Fp32 => match self {
                // A conversion by way of FP64 would round twice.
                Element::Text(text) => {
                    let number: f32 = text.parse().map_err(|_| misfit())?;
                    if number.is_infinite() && text.contains(|character: char| character.is_ascii_digit()) {
                        return Err(misfit());
                    }
                    out.extend(number.to_le_bytes());
                }
                _ => float!(|number: f64| number as f32),
            },
            Datatype::Fp16 => float!(f16::from_f64),
            Datatype::Bf16 => float!(bf16::from_f64),
            Datatype::Bytes => match self {
                Element::Bytes(bytes) => push_bytes_element(out, bytes)?,
                Element::Text(text) => push_bytes_element(out, text.as_bytes())?,
                _ => return Err(misfit()),
            },
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
            Element::Bool(_) | Element::Bytes(_) => None,
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

    fn misfit(&self, datatype: Datatype) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        json::write_elements,
        tensor::{Shape, Tensor},
    };

    #[test]
    fn elements_convert_to_the_datatype_of_the_input() {
        let push = |datatype: &str, element: &Element<'_>| {
            let datatype = Datatype::from_name(datatype).unwrap();
            let mut data = Vec::new();
            element.push(datatype, &mut data)?;
            let tensor = Tensor::new(datatype, Shape::new(vec![1]), data.into()).unwrap();
            let mut text = Vec::new();
            write_elements(&mut text, &tensor);
            Ok::<_, String>(String::from_utf8(text).unwrap().trim_matches(['[', ']']).to_owned())
        };
        for (datatype, element, expected) in [
            ("FP32", Element::Integer(3), "3.0"),
            ("FP32", Element::Text("nan"), "NaN"),
            ("FP32", Element::Text("-inf"), "-Infinity"),
            ("FP32", Element::Text("1e30"), "1e30"),
            // Half-way between two FP32, and a little more: rounded once.
            ("FP32", Element::Text("1.00000005960464477540"), "1.0000001"),
            ("FP64", Element::Float(f64::NEG_INFINITY), "-Infinity"),
            ("FP16", Element::Float(0.5), "0.5"),
            ("BF16", Element::Float(-2.0), "-2.0"),
            ("INT64", Element::Text("-9223372036854775808"), "-9223372036854775808"),
            ("UINT64", Element::Integer(u64::MAX.into()), "18446744073709551615"),
            ("INT8", Element::Text("3.0"), "3"),
            ("UINT8", Element::Float(255.0), "255"),
            ("BOOL", Element::Text("True"), "true"),
            ("BOOL", Element::Integer(0), "false"),
            ("BYTES", Element::Text("ß"), "\"ß\""),
            ("BYTES", Element::Bytes(vec![]), "\"\""),
        ] {
            assert_eq!(push(datatype, &element), Ok(expected.into()), "{element:?} as {datatype}");
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
            ("FP32", Element::Text("1e39"), "expected FP32, got '1e39'"),
        ] {
            assert!(push(datatype, &element).unwrap_err().contains(says), "{element:?} as {datatype}");
        }
    }
}
