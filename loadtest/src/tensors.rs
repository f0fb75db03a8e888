//! The tensors that requests carry: made up to fit the model's metadata, or read from a file.

use half::{bf16, f16};
use onnxd::{
    json::{Reader, TensorObject, once},
    tensor::{Datatype, Shape, Tensor, push_bytes_element},
};

/// A tensor with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub name: String,
    pub tensor: Tensor,
}

/// An input as the model's metadata has it; an extent of -1 is open.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<i64>,
}

/// Extents that were chosen for inputs, by name.
pub(crate) type Shapes = [(String, Vec<usize>)];

/// Extent of axes other than the first that a model leaves open, where none was chosen: most sequences take any.
const OPEN_EXTENT: usize = 16;

impl Input {
    /// A tensor of random elements that the input takes: floats from 0 to 1, integers 0 or 1, digits as BYTES.
    pub(crate) fn made_up(&self, rows: usize, shapes: &Shapes, random: &mut fastrand::Rng) -> Result<Named, String> {
        let chosen = shapes.iter().find(|(name, _)| *name == self.name).map(|(_, extents)| extents.clone());
        let open = |(axis, extent): (usize, &i64)| match usize::try_from(*extent) {
            Ok(extent) => extent,
            Err(_) if axis == 0 => rows,
            Err(_) => OPEN_EXTENT,
        };
        let shape = Shape::new(chosen.unwrap_or_else(|| self.shape.iter().enumerate().map(open).collect()));
        let elements = shape.elements().map_err(|error| format!("input '{}': {error}", self.name))?;
        let mut data = Vec::new();
        for _ in 0..elements {
            match self.datatype {
                Datatype::Fp16 => data.extend(f16::from_f32(random.f32()).to_le_bytes()),
                Datatype::Bf16 => data.extend(bf16::from_f32(random.f32()).to_le_bytes()),
                Datatype::Fp32 => data.extend(random.f32().to_le_bytes()),
                Datatype::Fp64 => data.extend(random.f64().to_le_bytes()),
                Datatype::Bytes => push_bytes_element(&mut data, &[random.u8(b'0'..=b'9')])?,
                integer => data.extend(&random.u64(0..=1).to_le_bytes()[..integer.size().unwrap_or_default()]),
            }
        }
        let tensor = Tensor::new(self.datatype, shape, data.into());
        let tensor = tensor.map_err(|error| format!("input '{}': {error}", self.name))?;
        Ok(Named { name: self.name.clone(), tensor })
    }
}

/// A request as a file has it, and the answer that is expected where there is one: the body of a request over HTTP, or a test
/// case of a version.
#[derive(Debug)]
pub(crate) struct Case {
    pub inputs: Vec<Named>,
    pub outputs: Option<Vec<Named>>,
}

impl Case {
    /// Reads the text of a file. Outputs that lack a datatype or a shape, as a test case may have them, expect nothing.
    ///
    /// # Errors
    /// For people: what is wrong, and where.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let (inputs, outputs) = inputs_and_outputs(text)?;
        let outputs = outputs.and_then(|outputs| named(outputs, "outputs").ok());
        Ok(Case { inputs: named(inputs.ok_or("it has no `inputs`")?, "inputs")?, outputs })
    }
}

/// The outputs in the JSON of an answer; those in binary behind it take their elements from `behind`, in order.
pub(crate) fn answer(text: &str, mut behind: &[u8]) -> Result<Vec<Named>, String> {
    let mut reader = Reader::new(text);
    let mut outputs = Vec::new();
    reader.object(|reader, key| match key {
        "outputs" => reader.array(|reader| {
            let mut size = None;
            let object = TensorObject::read(reader, |reader, key| match key {
                "parameters" => reader.object(|reader, key| match key {
                    "binary_data_size" => {
                        size = Some(reader.number()?.parse::<usize>().map_err(|error| error.to_string())?);
                        Ok(())
                    }
                    _ => reader.skip(),
                }),
                _ => reader.skip(),
            })?;
            let output = match size {
                None => one(object, "outputs")?,
                Some(size) => {
                    let (data, rest) = behind.split_at_checked(size).ok_or("less binary data than announced")?;
                    behind = rest;
                    with_data(object, data.to_vec())?
                }
            };
            outputs.push(output);
            Ok(())
        }),
        _ => reader.skip(),
    })?;
    Ok(outputs)
}

type Objects<'a> = Option<Vec<TensorObject<'a>>>;

fn inputs_and_outputs(text: &str) -> Result<(Objects<'_>, Objects<'_>), String> {
    let mut reader = Reader::new(text);
    let (mut inputs, mut outputs) = (None, None);
    reader.object(|reader, key| match key {
        "inputs" => once(&mut inputs, key, reader, objects),
        "outputs" => once(&mut outputs, key, reader, objects),
        _ => reader.skip(),
    })?;
    Ok((inputs, outputs))
}

fn objects<'a>(reader: &mut Reader<'a>) -> Result<Vec<TensorObject<'a>>, String> {
    let mut objects = Vec::new();
    reader.array(|reader| {
        objects.push(TensorObject::read(reader, |reader, _| reader.skip())?);
        Ok(())
    })?;
    Ok(objects)
}

fn named(objects: Vec<TensorObject<'_>>, what: &str) -> Result<Vec<Named>, String> {
    objects.into_iter().map(|object| one(object, what)).collect()
}

fn one(mut object: TensorObject<'_>, what: &str) -> Result<Named, String> {
    let (name, datatype, shape) = described(&mut object, what)?;
    let elements = object.elements(datatype)?.ok_or_else(|| format!("`{what}`: '{name}' has no `data`"))?;
    let tensor = elements.into_tensor(shape).map_err(|error| format!("`{what}`: '{name}': {error}"))?;
    Ok(Named { name, tensor })
}

fn with_data(mut object: TensorObject<'_>, data: Vec<u8>) -> Result<Named, String> {
    let (name, datatype, shape) = described(&mut object, "outputs")?;
    let tensor = Tensor::new(datatype, shape, data.into()).map_err(|error| format!("output '{name}': {error}"))?;
    Ok(Named { name, tensor })
}

fn described(object: &mut TensorObject<'_>, what: &str) -> Result<(String, Datatype, Shape), String> {
    let name = object.name.take().ok_or_else(|| format!("`{what}`: one has no `name`"))?;
    let missing = |key: &str| format!("`{what}`: '{name}' has no `{key}`");
    let datatype = object.datatype.take().ok_or_else(|| missing("datatype"))?;
    let datatype =
        Datatype::from_name(&datatype).ok_or_else(|| format!("`{what}`: '{name}': unknown datatype '{datatype}'"))?;
    let shape = Shape::from_wire(object.shape.as_ref().ok_or_else(|| missing("shape"))?);
    let shape = shape.map_err(|error| format!("`{what}`: '{name}': {error}"))?;
    Ok((name, datatype, shape))
}
