//! Names of the files of weights in an encoded model, found without reading the weights in it: their bytes are skipped.

use prost::Message as _;
use std::{
    collections::BTreeSet,
    io::{self, BufRead, Read as _, Seek, SeekFrom},
};

use crate::engine::model_file::onnx::StringStringEntryProto;

/// Bytes of a protobuf message, which a model is, at most.
const MAX_MODEL: u64 = (1 << 31) - 1;

/// Messages in messages at most.
const MAX_DEPTH: usize = 100;

/// Bytes of one entry of a tensor's external data at most.
const MAX_ENTRY: u64 = 64 << 10;

/// A message of onnx.proto that may hold tensors.
#[derive(Clone, Copy)]
enum MessageKind {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
    Entry,
}

impl MessageKind {
    /// Message in a field of this one, by the field's number in ONNX 1.23; `None` where it holds no tensors.
    fn field(self, number: u64) -> Option<MessageKind> {
        match (self, number) {
            (MessageKind::Model, 25) => Some(MessageKind::Function),
            (MessageKind::Model, 7) | (MessageKind::Attribute, 6 | 11) => Some(MessageKind::Graph),
            (MessageKind::Graph, 1) | (MessageKind::Function, 7) => Some(MessageKind::Node),
            (MessageKind::Node, 5) => Some(MessageKind::Attribute),
            (MessageKind::Graph, 5) | (MessageKind::Attribute, 5 | 10) | (MessageKind::SparseTensor, 1 | 2) => {
                Some(MessageKind::Tensor)
            }
            (MessageKind::Graph, 15) | (MessageKind::Attribute, 22 | 23) => Some(MessageKind::SparseTensor),
            (MessageKind::Tensor, 13) => Some(MessageKind::Entry),
            _ => None,
        }
    }
}

/// Names of the files that hold weights of a model, as it names them; none where it is no model.
///
/// # Errors
/// It can't be read.
pub(in crate::engine) fn locations(model: &mut (impl BufRead + Seek)) -> io::Result<BTreeSet<String>> {
    let end = model.seek(SeekFrom::End(0))?;
    if end > MAX_MODEL {
        return Ok(BTreeSet::new());
    }
    model.seek(SeekFrom::Start(0))?;
    let mut reader = LocationReader { model, position: 0, found: BTreeSet::new() };
    match reader.message(MessageKind::Model, end, 0) {
        Ok(()) => Ok(reader.found),
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error),
    }
}

struct LocationReader<'a, M> {
    model: &'a mut M,
    position: u64,
    found: BTreeSet<String>,
}

impl<M: BufRead + Seek> LocationReader<'_, M> {
    fn message(&mut self, kind: MessageKind, end: u64, depth: usize) -> io::Result<()> {
        while self.position < end {
            let tag = self.varint()?;
            if tag >> 3 == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match tag & 7 {
                0 => drop(self.varint()?),
                1 => self.skip(8, end)?,
                5 => self.skip(4, end)?,
                2 => {
                    let length = self.varint()?;
                    match kind.field(tag >> 3) {
                        Some(MessageKind::Entry) if length <= MAX_ENTRY => self.entry(length, end)?,
                        Some(inner) if depth < MAX_DEPTH => {
                            let inner_end = self.end(length, end)?;
                            self.message(inner, inner_end, depth + 1)?;
                        }
                        _ => self.skip(length, end)?,
                    }
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        // A field inside may have run past the end.
        if self.position == end { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn entry(&mut self, length: u64, end: u64) -> io::Result<()> {
        self.end(length, end)?;
        let mut bytes = Vec::new();
        (&mut *self.model).take(length).read_to_end(&mut bytes)?;
        self.position += length;
        let entry = StringStringEntryProto::decode(&*bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if entry.key == "location" {
            self.found.insert(entry.value);
        }
        Ok(())
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.model.read_exact(&mut byte)?;
            self.position += 1;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Where the next bytes end, which must lie in the message.
    fn end(&self, length: u64, end: u64) -> io::Result<u64> {
        let within = self.position.checked_add(length).filter(|at| *at <= end);
        within.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn skip(&mut self, length: u64, end: u64) -> io::Result<()> {
        let target = self.end(length, end)?;
        // A seek inside the buffer keeps it, a seek of the file would discard it.
        let buffered = self.model.fill_buf()?.len() as u64;
        if length <= buffered {
            self.model.consume(usize::try_from(length).unwrap_or(0));
        } else {
            self.model.seek(SeekFrom::Start(target))?;
        }
        self.position = target;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model_file::onnx::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto,
    };
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    fn tensor(location: &str) -> TensorProto {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        TensorProto { external_data: vec![entry("offset", "0"), entry("location", location)], ..TensorProto::default() }
    }

    fn node(attribute: AttributeProto) -> NodeProto {
        NodeProto { attributes: vec![attribute], ..NodeProto::default() }
    }

    fn found(encoded: &[u8], buffer: usize) -> Vec<String> {
        let mut reader = BufReader::with_capacity(buffer, Cursor::new(encoded));
        locations(&mut reader).unwrap().into_iter().collect()
    }

    #[test]
    fn locations_are_found_wherever_tensors_lie() {
        let large = TensorProto { raw_data: vec![7; 10_000].into(), ..TensorProto::default() };
        let body = GraphProto { initializers: vec![tensor("body")], ..GraphProto::default() };
        let nodes = vec![
            node(AttributeProto { tensor: Some(tensor("attribute")), ..AttributeProto::default() }),
            node(AttributeProto { tensors: vec![tensor("list")], ..AttributeProto::default() }),
            node(AttributeProto { graph: Some(body.clone()), ..AttributeProto::default() }),
            node(AttributeProto { graphs: vec![GraphProto { nodes: vec![], ..body }], ..AttributeProto::default() }),
        ];
        let function = FunctionProto {
            nodes: vec![node(AttributeProto { tensor: Some(tensor("function")), ..AttributeProto::default() })],
            ..FunctionProto::default()
        };
        let initializers = vec![large.clone(), tensor("./w.bin"), large, tensor("w.bin")];
        let graph = GraphProto { nodes, initializers, ..GraphProto::default() };
        let encoded =
            ModelProto { graph: Some(graph), functions: vec![function], ..ModelProto::default() }.encode_to_vec();
        for buffer in [1, 16, 100_000] {
            assert_eq!(found(&encoded, buffer), ["./w.bin", "attribute", "body", "function", "list", "w.bin"]);
        }
        assert_eq!(found(&encoded[..encoded.len() - 1], 16), Vec::<String>::new(), "it was cut short");
    }

    proptest! {
        #[test]
        fn location_search_survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = found(&bytes, 8);
        }
    }
}
