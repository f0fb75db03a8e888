use super::*;
use proptest::prelude::*;

fn read(datatype: Datatype, text: &str) -> Result<Vec<u8>, String> {
    Elements::read(&mut Reader::new(text), datatype, 0).map(|elements| elements.data)
}

/// A tensor of any elements of any datatype.
fn tensor() -> impl Strategy<Value = Tensor> {
    let datatype = prop::sample::select(Datatype::ALL.to_vec());
    (datatype, prop::collection::vec(prop::collection::vec(any::<u8>(), 8), 0..9)).prop_map(|(datatype, elements)| {
        let mut data = Vec::new();
        for element in &elements {
            match datatype {
                Datatype::Bool => data.push(element[0] & 1),
                Datatype::Bytes => push_bytes_element(&mut data, &element[..usize::from(element[0]) % 9]).unwrap(),
                _ => data.extend_from_slice(&element[..datatype.size().unwrap()]),
            }
        }
        Tensor::new(datatype, Shape::new(vec![elements.len()]), data.into()).unwrap()
    })
}

proptest! {
    #[test]
    fn elements_round_trip_through_json(tensor in tensor()) {
        let mut text = Vec::new();
        write_elements(&mut text, &tensor);
        let text = String::from_utf8(text).unwrap();
        let elements = Elements::read(&mut Reader::new(&text), tensor.datatype(), 0).unwrap();
        let back = elements.into_tensor(tensor.shape().clone()).unwrap();
        // NaNs have many forms and one token.
        let tolerance = crate::tensor::Tolerance { absolute: 0.0, relative: 0.0 };
        prop_assert_eq!(crate::tensor::first_difference(&tensor, &back, tolerance), None, "{}", text);
        prop_assert_eq!(back.data().len(), tensor.data().len());
    }

    /// Rounded once, from the text.
    #[test]
    fn fp32_is_rounded_once_from_its_text(mantissa in any::<u64>(), exponent in -60..40i32) {
        let text = format!("{mantissa}e{exponent}");
        let expected: f32 = text.parse().unwrap();
        prop_assume!(expected.is_finite());
        prop_assert_eq!(read(Datatype::Fp32, &text), Ok(expected.to_le_bytes().to_vec()));
    }
}

#[test]
fn non_finite_numbers_are_read() {
    let floats = |values: &[f32]| Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>());
    let expected = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    assert_eq!(read(Datatype::Fp32, "[NaN, Infinity, -Infinity]"), expected);
    assert_eq!(read(Datatype::Fp32, r#"["NaN", "Infinity", "-Infinity"]"#), expected);
    assert_eq!(read(Datatype::Fp16, "[Infinity, 1.5]"), Ok(vec![0, 0x7c, 0, 0x3e]));
    // Would be rounded to another value by way of FP64.
    assert_eq!(read(Datatype::Fp32, "7.038531e-26"), floats(&[7.038_531e-26]));
    assert_eq!(read(Datatype::Fp32, "[[[1], [2]], [[3], [4]]]"), floats(&[1.0, 2.0, 3.0, 4.0]));
    assert_eq!(read(Datatype::Fp32, "[[], []]"), floats(&[]));
}

#[test]
fn errors_name_the_received_value() {
    for (datatype, text, expected) in [
        (Datatype::Fp32, "[1, null]", "expected a number, got null (a missing one is sent as NaN) at line 1 column 5"),
        (Datatype::Fp32, "[1, \"two\"]", "expected a number, got \"two\" at line 1 column 5"),
        (Datatype::Fp32, "[1, \"2\"]", "expected a number, got \"2\" at line 1 column 5"),
        (Datatype::Fp32, "[1e39]", "1e39 does not fit FP32 at line 1 column 2"),
        (Datatype::Fp16, "[65520]", "65520 does not fit FP16 at line 1 column 2"),
        (Datatype::Fp64, "[1e999]", "1e999 does not fit FP64 at line 1 column 2"),
        (Datatype::Uint8, "[256]", "256 does not fit UINT8 at line 1 column 2"),
        (Datatype::Uint64, "[-1]", "-1 does not fit UINT64 at line 1 column 2"),
        (Datatype::Int32, "[2.5]", "expected a whole number, got 2.5 at line 1 column 2"),
        (Datatype::Int32, "[NaN]", "expected a whole number, got NaN at line 1 column 2"),
        (Datatype::Int32, "[true]", "expected a whole number, got true at line 1 column 2"),
        (Datatype::Bool, "[true, 1]", "expected true or false, got 1 at line 1 column 8"),
        (Datatype::Int32, "[null]", "expected a whole number, got null at line 1 column 2"),
        (Datatype::Fp32, "[[1, 2], [3]]", "expected 2 elements as in the array before, got 1 at line 1 column 10"),
        (
            Datatype::Fp32,
            "[[1], [2, [3]]]",
            "expected values inside 2 arrays as the first is, got one inside 3 at line 1 column 12",
        ),
        (Datatype::Fp32, "[[], [1]]", "expected 0 elements as in the array before, got 1 at line 1 column 6"),
        (
            Datatype::Fp32,
            "[1, [2]]",
            "expected values inside 1 arrays as the first is, got one inside 2 at line 1 column 6",
        ),
        (Datatype::Bytes, "[1]", "expected a string, got 1 at line 1 column 2"),
        (Datatype::Bytes, "[{}]", "expected a key 'b64', got none at line 1 column 2"),
        (Datatype::Bytes, "[{\"x\": 1}]", "expected one key 'b64', got 'x' at line 1 column 7"),
    ] {
        assert_eq!(read(datatype, text), Err(expected.to_owned()), "{text}");
    }
    assert!(read(Datatype::Bytes, "[{\"b64\": \"*\"}]").unwrap_err().contains("no base64"));
    assert!(read(Datatype::Bytes, "[{\"b64\": \"_-8=\"}]").unwrap_err().contains("not that of URLs"));
}

#[test]
fn base64_needs_no_padding() {
    let expected = Ok(vec![1, 0, 0, 0, 0xff]);
    assert_eq!(read(Datatype::Bytes, "{\"b64\": \"/w==\"}"), expected);
    assert_eq!(read(Datatype::Bytes, "{\"b64\": \"/w\"}"), expected);
}
