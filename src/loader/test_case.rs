//! A version's own test cases: what it must answer before it serves.
//!
//! A case is a request and its answer as HTTP has them, in one JSON object: `inputs` as in a request, `outputs` as in an
//! answer, with a `tolerance` and a `description` where one likes.

use std::path::PathBuf;

use super::probe::tolerance;
use crate::{
    engine::Instance,
    error::Failure,
    json::{Reader, TensorObject, once},
    repository::Source,
    tensor::{
        Datatype, Inputs, ModelInputs, NamedTensor, Shape, Signature, Tensor, TensorSpec, Tolerance, first_difference,
    },
};

/// Test cases, all of which passed.
#[derive(Debug, Default)]
pub struct TestCases {
    /// Files of test cases, with their descriptions.
    pub passed: Vec<(PathBuf, Option<String>)>,
    /// Other files in the same folder.
    pub others: Vec<PathBuf>,
}

/// Keys that a test case may have; a request's and an answer's other keys are ignored.
const KEYS: [&str; 8] =
    ["description", "tolerance", "inputs", "outputs", "id", "parameters", "model_name", "model_version"];
const TENSOR_KEYS: [&str; 5] = ["name", "shape", "datatype", "data", "parameters"];
const TOLERANCE_KEYS: [&str; 2] = ["absolute", "relative"];

/// Failed cases that are reported one by one, at most.
const MAX_LISTED: usize = 5;

/// Runs the test cases of a version on an instance of it.
///
/// # Errors
/// The first failed cases: the file, and where outputs differ, the output, the element, what was expected and what came.
pub(in crate::loader) fn run_all(source: &Source, model: &str, instance: &mut Instance) -> Result<TestCases, Failure> {
    let (paths, others) = source.test_cases()?;
    let mut failed = Vec::new();
    let mut passed = Vec::new();
    for path in &paths {
        let text = source.read_test_case(path)?;
        match run(&text, model, instance) {
            Ok(description) => passed.push((path.clone(), description)),
            Err(why) => failed.push(format!("{}: {why}", path.display())),
        }
    }
    if failed.is_empty() {
        return Ok(TestCases { passed, others });
    }
    let (count, total) = (failed.len(), paths.len());
    failed.truncate(MAX_LISTED);
    Err(Failure::lasting(format!("{count} of {total} test cases failed: {}", failed.join("; "))))
}

/// Runs a case and gives its description.
fn run(text: &str, model: &str, instance: &mut Instance) -> Result<Option<String>, String> {
    let mut case = Case::read(text)?;
    let signature = instance.signature().clone();
    let inputs = case.inputs(model, &signature)?;
    let names: Vec<String> = case.outputs.iter().map(|(name, _)| name.clone()).collect();
    let wanted = signature.wanted_outputs(model, &names).map_err(|error| error.to_string())?;
    let wanted = wanted.unwrap_or_else(|| (0..signature.outputs.len()).collect());
    let outputs = instance.run(&[&inputs]).outputs.map_err(|error| format!("the run failed: {error}"))?;
    for (index, (name, expected)) in wanted.into_iter().zip(case.outputs) {
        let spec = &signature.outputs[index];
        let got = &outputs[index];
        compare(spec, expected, got, &case.tolerance).map_err(|why| format!("output '{name}': {why}"))?;
    }
    Ok(case.description)
}

/// True if a text is a test case whose tensors fit together, for the fuzz targets.
#[cfg(any(fuzzing, test))]
pub(crate) fn read_for_fuzzing(text: &str) -> Result<(), String> {
    let anything = Signature::new(Vec::new(), Vec::new(), Vec::new());
    Case::read(text)?.inputs("model", &anything).map(drop)
}

/// A test case as it is written.
struct Case<'a> {
    description: Option<String>,
    tolerance: CaseTolerance,
    inputs: Vec<TensorObject<'a>>,
    outputs: Vec<(String, TensorObject<'a>)>,
}

#[derive(Default)]
struct CaseTolerance {
    absolute: Option<f64>,
    relative: Option<f64>,
}

impl<'a> Case<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let mut reader = Reader::new(text);
        let (mut description, mut tolerance, mut inputs, mut outputs) = (None, None, None, None);
        reader.object(|reader, key| match key {
            "description" => once(&mut description, key, reader, |reader| reader.string().map(Into::into)),
            "tolerance" => once(&mut tolerance, key, reader, read_tolerance),
            "inputs" => once(&mut inputs, key, reader, tensors),
            "outputs" => once(&mut outputs, key, reader, tensors),
            _ => ignored(reader, key, &KEYS),
        })?;
        if !reader.is_at_end() {
            return Err(reader.error("there is more behind the test case"));
        }
        let inputs = inputs.ok_or("`inputs` is missing: they are those of a request")?;
        let outputs: Vec<TensorObject<'a>> = outputs.unwrap_or_default();
        if outputs.is_empty() {
            return Err("`outputs` is missing: they are those of the answer that is expected".into());
        }
        let named = |(index, mut output): (usize, TensorObject<'a>)| {
            let name = output.name.take().ok_or_else(|| format!("`outputs[{index}]` has no `name`"))?;
            Ok((name, output))
        };
        let outputs = outputs.into_iter().enumerate().map(named).collect::<Result<_, String>>()?;
        Ok(Case { description, tolerance: tolerance.unwrap_or_default(), inputs, outputs })
    }

    /// The inputs, checked against the signature.
    fn inputs(&mut self, model: &str, signature: &Signature) -> Result<ModelInputs, String> {
        let mut inputs = Vec::new();
        for (index, mut input) in std::mem::take(&mut self.inputs).into_iter().enumerate() {
            let missing = |what: &str| format!("`inputs[{index}]` has no `{what}`");
            let name = input.name.take().ok_or_else(|| missing("name"))?;
            let at = |why: String| format!("input '{name}': {why}");
            let datatype = input.datatype.take().ok_or_else(|| missing("datatype"))?;
            let datatype = Datatype::from_name(&datatype).ok_or_else(|| {
                at(format!(
                    "unknown datatype '{datatype}', expected one of {}",
                    Datatype::ALL.map(Datatype::name).join(", ")
                ))
            })?;
            let extents = input.shape.clone().ok_or_else(|| missing("shape"))?;
            let shape = Shape::from_wire(&extents).map_err(|error| at(error.to_string()))?;
            let elements = input.elements(datatype).map_err(at)?.ok_or_else(|| missing("data"))?;
            let tensor = elements.into_tensor(shape).map_err(|error| at(error.to_string()))?;
            inputs.push(NamedTensor { name, tensor });
        }
        signature.check(model, Inputs::Named(inputs)).map_err(|error| error.to_string())
    }
}

/// Holds an output against what the case expects of it.
fn compare(spec: &TensorSpec, expected: TensorObject<'_>, got: &Tensor, chosen: &CaseTolerance) -> Result<(), String> {
    if let Some(datatype) = expected.datatype.as_deref().filter(|datatype| *datatype != spec.datatype.name()) {
        return Err(format!("expected datatype {datatype}, got {}", spec.datatype));
    }
    if let Some(extents) = &expected.shape {
        let shape = Shape::from_wire(extents).map_err(|error| error.to_string())?;
        if shape != *got.shape() {
            return Err(format!("expected shape {shape}, got {}", got.shape()));
        }
    }
    let elements = expected.elements(spec.datatype)?.ok_or("it has no `data`")?;
    let count = elements.count();
    let expected = elements.into_tensor(got.shape().clone());
    let expected = expected.map_err(|_| format!("expected {count} elements, got shape {}", got.shape()))?;
    let default = tolerance(spec.datatype);
    let tolerance = Tolerance {
        absolute: chosen.absolute.unwrap_or(default.absolute),
        relative: chosen.relative.unwrap_or(default.relative),
    };
    let Some(difference) = first_difference(&expected, got, tolerance) else { return Ok(()) };
    let allowed = match spec.datatype {
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => {
            format!("; tolerance {:e} absolute plus {:e} relative", tolerance.absolute, tolerance.relative)
        }
        _ => String::new(),
    };
    let place = if got.shape().extents().len() > 1 {
        format!(" (at {})", place(got.shape(), difference.element))
    } else {
        String::new()
    };
    Err(format!(
        "element {}{place}: expected {}, got {}{allowed}",
        difference.element, difference.expected, difference.got
    ))
}

/// The indices of an element of a shape.
fn place(shape: &Shape, mut element: usize) -> Shape {
    let mut indices: Vec<usize> = shape.extents().to_vec();
    for index in indices.iter_mut().rev() {
        let extent = (*index).max(1);
        *index = element % extent;
        element /= extent;
    }
    Shape::new(indices)
}

fn tensors<'a>(reader: &mut Reader<'a>) -> Result<Vec<TensorObject<'a>>, String> {
    let mut tensors = Vec::new();
    reader.array(|reader| {
        tensors.push(TensorObject::read(reader, |reader, key| ignored(reader, key, &TENSOR_KEYS))?);
        Ok(())
    })?;
    Ok(tensors)
}

fn read_tolerance(reader: &mut Reader<'_>) -> Result<CaseTolerance, String> {
    let mut tolerance = CaseTolerance::default();
    reader.object(|reader, key| match key {
        "absolute" => once(&mut tolerance.absolute, key, reader, deviation),
        "relative" => once(&mut tolerance.relative, key, reader, deviation),
        _ => ignored(reader, key, &TOLERANCE_KEYS),
    })?;
    Ok(tolerance)
}

fn deviation(reader: &mut Reader<'_>) -> Result<f64, String> {
    let before = reader.clone();
    let text = reader.number()?;
    let value: Option<f64> = text.parse().ok();
    let wrong = || before.error(format_args!("expected a number that is 0 or more, got {text}"));
    value.filter(|value| *value >= 0.0 && value.is_finite()).ok_or_else(wrong)
}

/// Reads past the value of a key that is known but means nothing here.
fn ignored(reader: &mut Reader<'_>, key: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&key) {
        return reader.skip();
    }
    let nearest = known.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
    let nearest = nearest.map(|nearest| format!("; did you mean `{nearest}`?")).unwrap_or_default();
    Err(reader.error(format_args!("unknown key `{key}`{nearest} Known are {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn test_case_parser_reports_mistakes() {
        let case = |text: &str| Case::read(text).map(drop).unwrap_err();
        let good = r#"{"id": "7", "model_version": "1", "tolerance": {"absolute": 0},
            "inputs": [], "outputs": [{"name": "y", "parameters": {}, "data": [1]}]}"#;
        assert!(Case::read(good).is_ok());
        for (text, says) in [
            ("", "expected an object, got the end"),
            ("{} {}", "there is more behind"),
            (r#"{"outputs": []}"#, "`inputs` is missing"),
            (r#"{"inputs": []}"#, "`outputs` is missing"),
            (r#"{"inputs": [], "outputs": []}"#, "`outputs` is missing"),
            (r#"{"inputs": [], "outputs": [{"data": [1]}]}"#, "`outputs[0]` has no `name`"),
            (r#"{"input": []}"#, "unknown key `input`; did you mean `inputs`?"),
            (r#"{"inputs": [{"dtype": "FP32"}]}"#, "unknown key `dtype`; did you mean `datatype`?"),
            (r#"{"tolerance": {"relativ": 1}}"#, "did you mean `relative`?"),
            (r#"{"tolerance": {"relative": -1}}"#, "expected a number that is 0 or more, got -1"),
            (r#"{"tolerance": {"absolute": NaN}}"#, "got NaN"),
            (r#"{"tolerance": 1}"#, "expected an object, got 1"),
            (r#"{"inputs": [], "inputs": []}"#, "`inputs` stands there twice"),
        ] {
            let said = case(text);
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn element_place_is_row_major() {
        let shape = Shape::new(vec![2, 3, 4]);
        for (element, indices) in [(0, [0, 0, 0]), (5, [0, 1, 1]), (23, [1, 2, 3])] {
            assert_eq!(place(&shape, element), Shape::new(indices.into()));
        }
    }

    /// Texts that are nearly test cases.
    fn text() -> impl Strategy<Value = String> {
        let word = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"inputs\"",
            "\"outputs\"",
            "\"name\"",
            "\"data\"",
            "\"tolerance\"",
            "1",
            "NaN",
            "null",
        ]);
        prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn test_case_parser_survives_any_text(text in prop_oneof![text(), "(?s).{0,100}"]) {
            let _ = Case::read(&text);
        }
    }
}
