//! Made-up inputs, drawn in several ways: what one way never shows, such as a threshold or a large index, another does.

use bytes::Bytes;
use half::{bf16, f16};

use crate::{
    engine::RowAnalysis,
    tensor::{Datatype, Dimension, ModelInputs, Shape, Signature, Tensor, TensorSpec, push_bytes_element},
};

/// The values of made-up inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::loader) enum Draw {
    /// Floats between 0 and 1, integers 0 or 1 (which most vocabularies and categories have), digits as texts (which are
    /// numbers and words alike).
    Gentle,
    /// Of both signs, some units large.
    Signed,
    /// Up to ten thousand.
    Large,
    /// A millionth.
    Tiny,
    /// Each row of another magnitude and sign.
    Scaled,
    /// NaN in one row.
    NotANumber,
    /// All rows the same but one.
    OneOdd,
}

impl Draw {
    /// The draws of a thorough probe, the mildest first.
    pub(super) const ALL: [Draw; 7] =
        [Draw::Gentle, Draw::Signed, Draw::Scaled, Draw::Large, Draw::Tiny, Draw::OneOdd, Draw::NotANumber];

    /// True if the largest batches are run with it too.
    pub(super) fn is_for_large_batches(self) -> bool {
        matches!(self, Draw::Signed | Draw::Scaled)
    }

    fn float(self, row: usize, index: usize, random: &mut SplitMix) -> f64 {
        let fraction = random.fraction();
        let signed = 2.0 * fraction - 1.0;
        match self {
            Draw::Gentle => fraction,
            Draw::Signed => 4.0 * signed,
            Draw::Large => 1e4 * signed,
            Draw::Tiny => 1e-6 * signed,
            Draw::Scaled => {
                (4.0 + signed) * f64::powi(10.0, row as i32 % 7 - 3) * if row.is_multiple_of(2) { 1.0 } else { -1.0 }
            }
            Draw::NotANumber if row == 1 && index.is_multiple_of(3) => f64::NAN,
            Draw::NotANumber => 4.0 * signed,
            Draw::OneOdd => {
                if row == 2 {
                    100.0
                } else {
                    0.5
                }
            }
        }
    }

    /// An integer, below the size of the table that the input indexes where that is known.
    fn integer(self, row: usize, table: Option<i64>, random: &mut SplitMix) -> i64 {
        let bits = random.next();
        let drawn = (bits >> 1) as i64;
        match (self, table) {
            (Draw::Gentle, _) => (bits & 1) as i64,
            (Draw::OneOdd, Some(size)) => {
                if row == 2 {
                    size - 1
                } else {
                    0
                }
            }
            (_, Some(size)) => drawn % size.max(1),
            (Draw::OneOdd, None) => i64::from(row == 2),
            (Draw::Signed, None) => drawn % 17 - 8,
            (Draw::Large, None) => drawn % 1000,
            (Draw::Scaled, None) => drawn % (1 << (row % 7)),
            (Draw::Tiny | Draw::NotANumber, None) => drawn & 1,
        }
    }

    fn text(self, row: usize, random: &mut SplitMix) -> Vec<u8> {
        const WORDS: [&str; 8] =
            ["yes", "no", "a", "incomprehensibilities", "42", "caf\u{e9}", "the", "\u{4f60}\u{597d}"];
        match self {
            Draw::Gentle => vec![b'0' + (random.next() % 10) as u8],
            // From no word to nine.
            _ => {
                let words = (row * 3 + self as usize) % 10;
                let words = (0..words).map(|_| WORDS[(random.next() % 8) as usize]);
                words.collect::<Vec<_>>().join(" ").into_bytes()
            }
        }
    }
}

/// Inputs of so many rows, each different, with `open` for the extents that the signature and the analysis of the graph leave open.
///
/// # Errors
/// For people: an input is too large.
pub(in crate::loader) fn made_up(
    signature: &Signature,
    analysis: &RowAnalysis,
    rows: usize,
    open: usize,
    draw: Draw,
) -> Result<ModelInputs, String> {
    let mut random = SplitMix(0);
    let input = |spec: &TensorSpec| {
        let table = analysis.table_sizes.get(&*spec.name).copied();
        let open = |axis: usize| match axis {
            0 => rows,
            axis => analysis.required_extents.get(&(spec.name.to_string(), axis)).copied().unwrap_or(open),
        };
        made_up_input(spec, rows, open, (draw, table), &mut random)
    };
    Ok(signature.inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?.into())
}

/// Bytes of one made-up input at most.
const MAX_INPUT_BYTES: usize = 256 << 20;

fn made_up_input(
    spec: &TensorSpec,
    rows: usize,
    open: impl Fn(usize) -> usize,
    (draw, table): (Draw, Option<i64>),
    random: &mut SplitMix,
) -> Result<Tensor, String> {
    let extent = |(axis, dimension): (usize, &Dimension)| match dimension {
        Dimension::Fixed(extent) => *extent,
        Dimension::Symbolic(_) => open(axis),
    };
    // One that may have any rank gets two axes, as most have.
    let any = [Dimension::Symbolic(None), Dimension::Symbolic(None)];
    let shape = Shape::new(spec.shape.as_deref().unwrap_or(&any).iter().enumerate().map(extent).collect());
    // An element of BYTES takes its length and one digit.
    let size = spec.datatype.size().unwrap_or(size_of::<u32>() + 1);
    let elements = shape.elements().map_err(|error| error.to_string())?;
    let length = elements.checked_mul(size).filter(|&length| length <= MAX_INPUT_BYTES);
    let length = length.ok_or_else(|| {
        format!("input '{}' is too large to be probed: {rows} rows have {elements} elements", spec.name)
    })?;
    let per_row = elements.div_ceil(shape.rows().max(1)).max(1);
    let mut data = Vec::with_capacity(length);
    for element in 0..elements {
        let (row, index) = (element / per_row, element % per_row);
        match spec.datatype {
            Datatype::Fp16 => data.extend(f16::from_f64(draw.float(row, index, random)).to_le_bytes()),
            Datatype::Bf16 => data.extend(bf16::from_f64(draw.float(row, index, random)).to_le_bytes()),
            Datatype::Fp32 => data.extend((draw.float(row, index, random) as f32).to_le_bytes()),
            Datatype::Fp64 => data.extend(draw.float(row, index, random).to_le_bytes()),
            Datatype::Bytes => push_bytes_element(&mut data, &draw.text(row, random))?,
            Datatype::Bool => data.push((random.next() & 1) as u8),
            _ => data.extend_from_slice(&draw.integer(row, table, random).to_le_bytes()[..size]),
        }
    }
    Tensor::new(spec.datatype, shape, Bytes::from(data)).map_err(|error| error.to_string())
}

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): the same numbers at every
/// load.
pub(super) struct SplitMix(pub u64);

impl SplitMix {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to 1, with the 24 bits of an FP32.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 24)
    }
}
