use super::{elements::Elements, reader::Reader};
use crate::{error::Result, tensor::Datatype};

/// A tensor as an object of JSON has it, in a request, an answer or a test case. A key that is not there, or null, is `None`:
/// what that means is for the caller to say.
#[derive(Debug, Default)]
pub struct TensorObject<'a> {
    /// `name`
    pub name: Option<String>,
    /// `shape`, with the extents that it claims.
    pub shape: Option<Vec<i64>>,
    /// `datatype`
    pub datatype: Option<String>,
    data: Option<Data<'a>>,
}

#[derive(Debug)]
enum Data<'a> {
    Read(Datatype, Elements),
    /// The datatype was not known yet, or is not what the elements are: here they stand.
    At(Reader<'a>),
}

impl<'a> TensorObject<'a> {
    /// Reads a tensor. `other` is given the keys that are none of a tensor's own, and reads their values.
    ///
    /// # Errors
    /// For people: this is not JSON, a key stands there twice, or a value is of the wrong kind. Elements that don't fit the
    /// datatype are reported by [`TensorObject::elements`], when it is known whose they are.
    pub fn read(
        reader: &mut Reader<'a>,
        mut other: impl FnMut(&mut Reader<'a>, &str) -> Result<(), String>,
    ) -> Result<Self, String> {
        let mut tensor = TensorObject::default();
        reader.object(|reader, key| match key {
            "name" => once(&mut tensor.name, key, reader, |reader| reader.string().map(Into::into)),
            "datatype" => once(&mut tensor.datatype, key, reader, |reader| reader.string().map(Into::into)),
            "shape" => once(&mut tensor.shape, key, reader, shape),
            "data" => {
                let datatype = tensor.datatype.as_deref().and_then(Datatype::from_name);
                let expected = tensor.shape.as_deref().map_or(0, elements);
                once(&mut tensor.data, key, reader, |reader| data(reader, datatype, expected))
            }
            _ => other(reader, key),
        })?;
        Ok(tensor)
    }

    /// True if the tensor has `data`.
    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    /// The elements, as those of this datatype; `None` where there are none.
    ///
    /// # Errors
    /// For people: an element is not of this datatype.
    pub fn elements(self, datatype: Datatype) -> Result<Option<Elements>, String> {
        match self.data {
            None => Ok(None),
            Some(Data::Read(read_as, elements)) if read_as == datatype => Ok(Some(elements)),
            // Only where the caller takes another datatype than the object names.
            Some(Data::Read(..)) => Err(format!("data was read as another datatype than {datatype}")),
            Some(Data::At(mut reader)) => {
                let expected = self.shape.as_deref().map_or(0, elements);
                let read = Elements::read(&mut reader, datatype, expected);
                read.map(Some).map_err(|why| format!("data is not an array of {datatype}: {why}"))
            }
        }
    }
}

/// Reads the value of a key that stands in an object once at most, and not where it is null: serializers write a missing value
/// as null.
///
/// # Errors
/// The key stands there twice, or what `read` says.
pub fn once<'a, T>(
    slot: &mut Option<T>,
    key: &str,
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, String>,
) -> Result<(), String> {
    if slot.is_some() {
        return Err(reader.error(format_args!("the key `{key}` stands there twice")));
    }
    if reader.null()? {
        return Ok(());
    }
    *slot = Some(read(reader).map_err(|why| format!("`{key}`: {why}"))?);
    Ok(())
}

/// Axes of a tensor at most. No model has a hundredth of them.
const MAX_AXES: usize = 1024;

fn shape(reader: &mut Reader<'_>) -> Result<Vec<i64>, String> {
    let mut extents = Vec::new();
    reader.array(|reader| {
        let before = reader.clone();
        let text = reader.number()?;
        let extent = text.parse().map_err(|_| before.error(format_args!("expected an extent, got {text}")))?;
        if extents.len() == MAX_AXES {
            return Err(reader.error(format_args!("more than {MAX_AXES} axes")));
        }
        extents.push(extent);
        Ok(())
    })?;
    Ok(extents)
}

/// About how many elements a shape has: how much memory to begin with.
fn elements(shape: &[i64]) -> usize {
    shape.iter().fold(1, |product, &extent| product.saturating_mul(usize::try_from(extent).unwrap_or(0)))
}

fn data<'a>(reader: &mut Reader<'a>, datatype: Option<Datatype>, expected: usize) -> Result<Data<'a>, String> {
    let start = reader.clone();
    if let Some(datatype) = datatype
        && let Ok(elements) = Elements::read(reader, datatype, expected)
    {
        return Ok(Data::Read(datatype, elements));
    }
    *reader = start.clone();
    reader.skip()?;
    Ok(Data::At(start))
}
