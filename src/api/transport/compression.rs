//! The encodings of messages and bodies: gzip, deflate and zstd, in steps that hold up no thread for long.

use axum::http::{HeaderMap, HeaderName};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use std::io;
use zstd::stream::raw::{self, CParameter, DParameter, InBuffer, Operation, OutBuffer};

use super::memory_budget::Share;

/// An encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Gzip,
    Deflate,
    Zstd,
}

/// The names of those that are known, as headers list them.
pub(in crate::api) const KNOWN_ENCODINGS: &str = "gzip, deflate, zstd, identity";

/// Bytes that are worked on in one go: less than a millisecond. In between others get the thread.
pub(in crate::api) const STEP_BYTES: usize = 128 << 10;

/// Answers that are smaller stay as they are: they fit in a few packets, and packing them costs more than it saves.
pub(in crate::api) const MIN_COMPRESSED_BYTES: usize = 4 << 10;

/// Frames that need a larger window are refused, as RFC 9659 has it. It is allocated for what the frame claims.
const ZSTD_WINDOW_LOG: u32 = 23;

impl Encoding {
    /// By preference, where a client has none. Some clients accept zstd by the word of a library below them, and then read
    /// gzip and deflate only.
    pub(in crate::api) const ALL: [Encoding; 3] = [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
        }
    }

    pub(in crate::api) fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Encoding::ALL.into_iter().find(|encoding| encoding.name().eq_ignore_ascii_case(name))
    }

    /// The one encoding that a header names; `None` where it names none, or identity.
    ///
    /// # Errors
    /// It names one that is not known, or several on top of each other.
    pub(in crate::api) fn named(headers: &HeaderMap, header: HeaderName) -> Result<Option<Self>, String> {
        let mut named = None;
        for value in headers.get_all(&header) {
            for name in value.to_str().unwrap_or("?").split(',').map(str::trim) {
                if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                let known = Encoding::from_name(name);
                let known = known
                    .ok_or_else(|| format!("{header} '{name}' is not supported, expected one of {KNOWN_ENCODINGS}"))?;
                if named.replace(known).is_some() {
                    return Err(format!(
                        "{header} names several encodings on top of each other, expected one of {KNOWN_ENCODINGS}"
                    ));
                }
            }
        }
        Ok(named)
    }

    /// The encoding that a client wants most of what `header`, an Accept-Encoding, lists with its weights; `None` where it
    /// wants none or does not mind.
    pub(in crate::api) fn accepted(headers: &HeaderMap, header: HeaderName) -> Option<Self> {
        Encoding::accepted_of(headers.get_all(header).iter().map(|value| value.to_str().unwrap_or_default()))
    }

    /// The same of the header's values.
    pub(crate) fn accepted_of<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut weights = [0.0_f32; Encoding::ALL.len()];
        let mut identity = 0.0;
        for value in values {
            for item in value.split(',') {
                let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
                let weight =
                    parameters.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim_start().strip_prefix('='));
                let weight = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
                match Encoding::from_name(name.trim()) {
                    Some(encoding) => weights[encoding as usize] = weight,
                    None if name.trim().eq_ignore_ascii_case("identity") => identity = weight,
                    None => {}
                }
            }
        }
        let wanted = Encoding::ALL.into_iter().filter(|encoding| {
            let weight = weights[*encoding as usize];
            weight > 0.0 && weight >= identity
        });
        // The first of those that are wanted as much: `max_by` would give the last.
        wanted.rev().max_by(|one, other| weights[*one as usize].total_cmp(&weights[*other as usize]))
    }
}

/// Unpacks a stream that comes in pieces.
pub(in crate::api) struct Decoder {
    format: Format,
    /// At the end of what can be an end.
    ended: bool,
}

enum Format {
    Gzip(Decompress),
    /// Of zlib's format, as the name means; some send it bare, which the first byte shows.
    Deflate(Option<Decompress>),
    Zstd(raw::Decoder<'static>),
}

impl Decoder {
    pub(in crate::api) fn new(encoding: Encoding) -> io::Result<Self> {
        let format = match encoding {
            Encoding::Gzip => Format::Gzip(Decompress::new_gzip(15)),
            Encoding::Deflate => Format::Deflate(None),
            Encoding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Format::Zstd(decoder)
            }
        };
        Ok(Decoder { format, ended: false })
    }

    /// Takes some of `input` and writes as far as `output` has room. Gives how much it took.
    pub(in crate::api) fn step(&mut self, input: &[u8], output: &mut Vec<u8>) -> io::Result<usize> {
        match &mut self.format {
            Format::Zstd(decoder) => {
                let mut read = InBuffer::around(input);
                let length = output.len();
                let mut written = OutBuffer::around_pos(output, length);
                let missing = decoder.run(&mut read, &mut written)?;
                let taken = read.pos();
                // Where nothing happened behind the end of a frame, the next one is asked for.
                if taken > 0 || output.len() > length {
                    self.ended = missing == 0;
                }
                Ok(taken)
            }
            Format::Gzip(inflate) => {
                if self.ended && !input.is_empty() {
                    // Members may follow each other.
                    inflate.reset(true);
                    self.ended = false;
                }
                inflate_step(inflate, input, output, &mut self.ended)
            }
            Format::Deflate(inflate) => {
                if self.ended && !input.is_empty() {
                    return Err(io::Error::other("there is more behind its end"));
                }
                let zlib = input.first().is_none_or(|first| first & 0x0f == 8);
                inflate_step(inflate.get_or_insert_with(|| Decompress::new(zlib)), input, output, &mut self.ended)
            }
        }
    }

    /// True if all that came can be the whole.
    pub(in crate::api) fn is_complete(&self) -> bool {
        self.ended
    }
}

fn inflate_step(inflate: &mut Decompress, input: &[u8], output: &mut Vec<u8>, ended: &mut bool) -> io::Result<usize> {
    let before = inflate.total_in();
    let status = inflate.decompress_vec(input, output, FlushDecompress::None)?;
    *ended = status == Status::StreamEnd;
    Ok((inflate.total_in() - before) as usize)
}

/// Many answers are noise to a packer. A sample shows that before a whole answer has been tried.
const SAMPLE_BYTES: usize = 16 << 10;

/// Compresses the data behind its first `prefix` bytes, if it is large enough, that pays, and `share` finds room for both. Gives
/// the encoding where it did.
pub(in crate::api) async fn compress_in_place(
    encoding: Encoding,
    data: &mut Vec<u8>,
    prefix: usize,
    share: &mut Share,
) -> Option<Encoding> {
    let both = data.len().saturating_mul(2).saturating_sub(share.bytes());
    if data.len() - prefix < MIN_COMPRESSED_BYTES || !share.grow(both) {
        return None;
    }
    // While it is compressed, others have the thread.
    let compressed = Box::pin(compress(encoding, &data[prefix..])).await?;
    data.truncate(prefix);
    match prefix {
        0 => *data = compressed,
        _ => data.extend_from_slice(&compressed),
    }
    Some(encoding)
}

/// Compresses `data`, quickly rather than well. `None` where that makes it hardly smaller.
async fn compress(encoding: Encoding, data: &[u8]) -> Option<Vec<u8>> {
    if data.len() >= 4 * SAMPLE_BYTES {
        let (mut packer, mut packed) = (Packer::new(encoding).ok()?, Vec::new());
        packer.step(&data[data.len() / 2..][..SAMPLE_BYTES], &mut packed).ok()?;
        packer.finish(&mut packed).ok()?;
        if packed.len() > SAMPLE_BYTES / 8 * 7 {
            return None;
        }
    }
    let mut packer = Packer::new(encoding).ok()?;
    let mut packed = Vec::with_capacity(data.len() / 2);
    for (index, piece) in data.chunks(STEP_BYTES).enumerate() {
        if index > 0 {
            tokio::task::yield_now().await;
        }
        packer.step(piece, &mut packed).ok()?;
        if packed.len() >= data.len() {
            return None;
        }
    }
    packer.finish(&mut packed).ok()?;
    (packed.len() < data.len()).then_some(packed)
}

/// Packs a stream that comes in pieces.
pub(in crate::api) enum Packer {
    Deflate(Compress),
    Zstd(raw::Encoder<'static>),
}

/// Room that is made for packed bytes, where there is none left.
const ROOM: usize = 64 << 10;

impl Packer {
    pub(in crate::api) fn new(encoding: Encoding) -> io::Result<Self> {
        Ok(match encoding {
            Encoding::Gzip => Packer::Deflate(Compress::new_gzip(Compression::fast(), 15)),
            Encoding::Deflate => Packer::Deflate(Compress::new(Compression::fast(), true)),
            Encoding::Zstd => {
                let mut encoder = raw::Encoder::new(1)?;
                encoder.set_parameter(CParameter::ChecksumFlag(false))?;
                Packer::Zstd(encoder)
            }
        })
    }

    pub(in crate::api) fn step(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> io::Result<()> {
        while !input.is_empty() {
            make_room(output);
            let taken = match self {
                Packer::Deflate(deflate) => {
                    let before = deflate.total_in();
                    deflate.compress_vec(input, output, FlushCompress::None)?;
                    (deflate.total_in() - before) as usize
                }
                Packer::Zstd(encoder) => {
                    let mut read = InBuffer::around(input);
                    let length = output.len();
                    encoder.run(&mut read, &mut OutBuffer::around_pos(output, length))?;
                    read.pos()
                }
            };
            input = &input[taken..];
        }
        Ok(())
    }

    pub(in crate::api) fn finish(mut self, output: &mut Vec<u8>) -> io::Result<()> {
        loop {
            make_room(output);
            let done = match &mut self {
                Packer::Deflate(deflate) => {
                    deflate.compress_vec(&[], output, FlushCompress::Finish)? == Status::StreamEnd
                }
                Packer::Zstd(encoder) => {
                    let length = output.len();
                    encoder.finish(&mut OutBuffer::around_pos(output, length), true)? == 0
                }
            };
            if done {
                return Ok(());
            }
        }
    }
}

fn make_room(output: &mut Vec<u8>) {
    if output.len() == output.capacity() {
        output.reserve(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{
        HeaderValue,
        header::{ACCEPT_ENCODING, CONTENT_ENCODING},
    };

    fn headers(header: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn accept_encoding_picks_the_preferred_encoding() {
        use Encoding::{Deflate, Gzip, Zstd};
        for (value, expected) in [
            ("", None),
            ("identity", None),
            ("*", None),
            ("br", None),
            ("gzip", Some(Gzip)),
            ("GZip", Some(Gzip)),
            ("deflate, gzip", Some(Gzip)),
            ("zstd, br, deflate, gzip", Some(Gzip)),
            ("gzip;q=0.9, zstd", Some(Zstd)),
            ("gzip;q=0.5, deflate;q=0.8", Some(Deflate)),
            ("gzip ; q=0, deflate;q=0.001", Some(Deflate)),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some(Gzip)),
            ("gzip, identity;q=0", Some(Gzip)),
            ("gzip;q=high", None),
        ] {
            assert_eq!(Encoding::accepted(&headers(ACCEPT_ENCODING, value), ACCEPT_ENCODING), expected, "{value}");
        }
    }

    #[test]
    fn content_encoding_names_one_known_encoding() {
        let named = |value| Encoding::named(&headers(CONTENT_ENCODING, value), CONTENT_ENCODING);
        for (value, expected) in
            [("identity", None), ("", None), ("zstd", Some(Encoding::Zstd)), ("identity, x-gzip", Some(Encoding::Gzip))]
        {
            assert_eq!(named(value), Ok(expected), "{value}");
        }
        assert!(named("br").unwrap_err().contains("'br' is not supported, expected one of gzip, deflate, zstd"));
        assert!(named("gzip, deflate").unwrap_err().contains("several"));
    }

    fn unpack(encoding: Encoding, packed: &[u8], piece: usize) -> io::Result<(Vec<u8>, bool)> {
        let (mut decoder, mut all) = (Decoder::new(encoding)?, Vec::new());
        for mut input in packed.chunks(piece) {
            loop {
                let mut output = Vec::with_capacity(100);
                let taken = decoder.step(input, &mut output)?;
                input = &input[taken..];
                let more = output.len() == output.capacity();
                all.extend(output);
                if input.is_empty() && !more {
                    break;
                }
            }
        }
        Ok((all, decoder.is_complete()))
    }

    #[tokio::test]
    async fn compressed_data_round_trips_in_any_pieces() {
        let data: Vec<u8> = (0..1_000_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for encoding in Encoding::ALL {
            let packed = compress(encoding, &data).await.unwrap();
            for piece in [packed.len(), 1000] {
                assert!(unpack(encoding, &packed, piece).unwrap() == (data.clone(), true), "{encoding:?} by {piece}");
            }
            let short = compress(encoding, &data[..4000]).await.unwrap();
            assert!(unpack(encoding, &short, 1).unwrap() == (data[..4000].into(), true), "{encoding:?} by 1");
            let cut = &short[..short.len() - 1];
            assert!(!unpack(encoding, cut, 100).unwrap().1, "{encoding:?}: what is cut short is not complete");
            assert!(unpack(encoding, b"\xff no such thing", 100).is_err(), "{encoding:?}");
            assert_eq!(compress(encoding, &[7]).await, None, "{encoding:?}: it would grow");
            let twice = unpack(encoding, &[short.clone(), short].concat(), 100);
            assert_eq!(twice.is_ok(), encoding != Encoding::Deflate, "members and frames may follow each other");
        }
    }

    #[tokio::test]
    async fn deflate_decodes_without_a_zlib_header() {
        let mut packed = Vec::with_capacity(1000);
        Compress::new(Compression::fast(), false).compress_vec(b"bare", &mut packed, FlushCompress::Finish).unwrap();
        assert_eq!(unpack(Encoding::Deflate, &packed, 1).unwrap(), (b"bare".into(), true));
    }
}
