//! Recognises the format of a file that is no ONNX model, by its beginning. Pure.

use std::fmt::{self, Display};

/// Bytes of a file's beginning that are looked at.
pub(super) const HEAD: usize = 4096;

/// Format that a file seems to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seems {
    what: String,
    /// Advice on the way from there to an ONNX model.
    advice: &'static str,
}

impl Seems {
    fn new(what: impl Into<String>, advice: &'static str) -> Option<Self> {
        Some(Seems { what: what.into(), advice })
    }

    /// Advice for people.
    pub(super) fn advice(&self) -> &'static str {
        self.advice
    }

    /// The format, without advice.
    pub(super) fn what(&self) -> &str {
        &self.what
    }
}

impl Display for Seems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it seems to be {}, expected an ONNX model: {}", self.what, self.advice)
    }
}

const TORCH: &str = "export it with torch.onnx.export(model, example_inputs, \"model.onnx\", dynamo=True)";
const PICKLE: &str = "export what it holds: torch.onnx.export for PyTorch, skl2onnx for scikit-learn, onnxmltools for XGBoost \
     and LightGBM";
const KERAS: &str = "export it with model.export(\"model.onnx\", format=\"onnx\") in Keras 3, or with tf2onnx";
const TENSORFLOW: &str = "convert it: python3 -m tf2onnx.convert --saved-model FOLDER --output model.onnx";
const ORIGINAL: &str = "serve the ONNX model that it was made from";
const UNPACK: &str = "unpack it, and serve the .onnx file in it";
const BOOSTED: &str = "convert it with onnxmltools";
const TRANSFORMERS: &str = "export it with optimum-cli export onnx --model FOLDER OUTPUT";
const GRAPH_DEF: &str = "convert it: python3 -m tf2onnx.convert --graphdef FILE --output model.onnx";
const LITE: &str = "convert it: python3 -m tf2onnx.convert --tflite FILE --output model.onnx";
const CATBOOST: &str = "export it with save_model(\"model.onnx\", format=\"onnx\")";
const PYTHON: &str = "export the model that it runs as ONNX, or leave it to Triton";

/// Endings of names that models of other platforms have, whole names among them.
const NAMES: [(&str, &str, &str); 19] = [
    ("model.py", "a model of Triton's Python backend", PYTHON),
    (".plan", "an engine of TensorRT", ORIGINAL),
    (".engine", "an engine of TensorRT", ORIGINAL),
    (".pt", "a PyTorch model", TORCH),
    (".pth", "a PyTorch model", TORCH),
    ("pytorch_model.bin", "a model of Hugging Face's transformers", TRANSFORMERS),
    (".safetensors", "weights without a graph (safetensors)", TRANSFORMERS),
    ("saved_model", "a TensorFlow SavedModel", TENSORFLOW),
    (".savedmodel", "a TensorFlow SavedModel", TENSORFLOW),
    ("saved_model.pb", "a TensorFlow SavedModel", TENSORFLOW),
    (".graphdef", "a TensorFlow graph", GRAPH_DEF),
    (".tflite", "a TensorFlow Lite model", LITE),
    (".h5", "a Keras model", KERAS),
    (".keras", "a Keras model", KERAS),
    (".pkl", "a Python pickle", PICKLE),
    (".joblib", "a Python pickle", PICKLE),
    (".ort", "a model in the ORT format", ORIGINAL),
    (".cbm", "a CatBoost model", CATBOOST),
    (".gguf", "a model of llama.cpp (GGUF)", TRANSFORMERS),
];

/// Model of another platform that a file or folder of this name seems to be.
pub(super) fn by_name(name: &str) -> Option<Seems> {
    let lower = name.to_ascii_lowercase();
    let fits = |ending: &str| if ending.starts_with('.') { lower.ends_with(ending) } else { lower == ending };
    let (_, what, advice) = NAMES.iter().find(|(ending, ..)| fits(ending))?;
    Seems::new(*what, advice)
}

/// The format that a file of `size` bytes that begins with `head` seems to have; `None` where it may be an ONNX model. No file
/// that is recognised here can be one: the beginnings are not those of its messages.
pub(super) fn recognise(head: &[u8], size: u64) -> Option<Seems> {
    let starts = |magic: &[u8]| head.starts_with(magic);
    let holds = |part: &[u8]| head.windows(part.len()).any(|window| window == part);
    if starts(b"version https://git-lfs.github.com/spec/") {
        return Seems::new(
            "a Git LFS pointer, which stands for a file that was not fetched",
            "fetch it with `git lfs install` and `git lfs pull` in the clone that it comes from",
        );
    }
    if starts(b"PK\x03\x04") {
        return zip(&holds);
    }
    if starts(b"\x80") && head.get(1).is_some_and(|protocol| (2..=5).contains(protocol)) {
        return Seems::new("a Python pickle (PyTorch, scikit-learn or joblib)", PICKLE);
    }
    if starts(b"\x89HDF\r\n\x1a\n") {
        return Seems::new("an HDF5 file (Keras)", KERAS);
    }
    // The message SavedModel: schema version 1, then a MetaGraphDef, which begins with its MetaInfoDef.
    if starts(b"\x08\x01\x12") && varint(&head[3..]).is_some_and(|rest| rest.first() == Some(&0x0a)) {
        return Seems::new("a TensorFlow SavedModel", TENSORFLOW);
    }
    // Flatbuffers: the offset of the root, which is small, and what it is.
    match head.get(2..8) {
        Some(b"\0\0TFL3") => {
            return Seems::new("a TensorFlow Lite model", "convert it: python3 -m tf2onnx.convert --tflite FILE");
        }
        Some(b"\0\0ORTM") => return Seems::new("a model in ONNX Runtime's own ORT format", ORIGINAL),
        _ => {}
    }
    if starts(b"GGUF") || starts(b"ggml") || starts(b"tjgg") {
        return Seems::new("a GGUF model (llama.cpp)", "export the original with optimum-cli export onnx");
    }
    if let Some((length, json)) = head.split_first_chunk::<8>()
        && json.starts_with(b"{")
        && u64::from_le_bytes(*length) < size
    {
        return Seems::new(
            "a safetensors file, which has weights but no graph",
            "export the model that they belong to, such as with optimum-cli export onnx",
        );
    }
    if starts(b"ptrt") || starts(b"ftrt") {
        return Seems::new("a TensorRT engine", ORIGINAL);
    }
    if starts(b"CBM1") {
        return Seems::new("a CatBoost model", "save it with save_model(\"model.onnx\", format=\"onnx\")");
    }
    if starts(b"\x93NUMPY") {
        return Seems::new("a NumPy array", "a model is a graph with weights: export it as ONNX");
    }
    for (magic, name) in [
        (&b"\x1f\x8b"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh", "bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    ] {
        if starts(magic) {
            return Seems::new(format!("a file compressed with {name}"), UNPACK);
        }
    }
    if head.get(257..262) == Some(b"ustar") {
        return Seems::new("a tar archive", UNPACK);
    }
    if head.iter().all(|byte| *byte == 0) && !head.is_empty() {
        return Seems::new("only zeros, at least where it begins", "it was not written to its end: copy it anew");
    }
    text(head)
}

/// A zip archive, by the names of the files in it.
fn zip(holds: &dyn Fn(&[u8]) -> bool) -> Option<Seems> {
    if holds(b"/data.pkl") || holds(b"/constants.pkl") {
        return Seems::new("a PyTorch model (torch.save or TorchScript)", TORCH);
    }
    if holds(b"metadata.json") && holds(b"config.json") {
        return Seems::new("a Keras model", KERAS);
    }
    if holds(b".npy") {
        return Seems::new("NumPy arrays (npz)", "a model is a graph with weights: export it as ONNX");
    }
    Seems::new("a zip archive", UNPACK)
}

/// A text, by its beginning. Few messages are printable from end to end; none of ONNX begin so, since the first byte of one
/// is the number of a field and its type, of which ONNX's are not printable but for some that stand for odd orders.
fn text(head: &[u8]) -> Option<Seems> {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        // Cut within a character.
        Err(error) if error.error_len().is_none() => str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}');
    let printable = |character: char| !character.is_control() || matches!(character, '\n' | '\r' | '\t');
    if text.is_empty() || !text.chars().all(printable) {
        return None;
    }
    let text = text.trim_start();
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Seems::new("a web page", "it was saved where the file was to be downloaded: see what it says");
    }
    if lower.starts_with("<?xml") || lower.starts_with("<error") {
        return match lower.contains("<net ") {
            true => Seems::new("an OpenVINO model", ORIGINAL),
            false => Seems::new("XML", "where a download answered with an error, see what it says"),
        };
    }
    if text.starts_with("tree\nversion=") {
        return Seems::new("a LightGBM model", BOOSTED);
    }
    if text.starts_with('{') {
        return match text.contains("\"learner\"") {
            true => Seems::new("an XGBoost model", BOOSTED),
            false => Seems::new("JSON", "where a download answered with an error, see what it says"),
        };
    }
    let beginning: String = text.chars().take_while(|character| !character.is_control()).take(60).collect();
    Seems::new(format!("text, which begins with {beginning:?}"), "put the .onnx file there")
}

/// The bytes behind a number in protobuf's encoding.
fn varint(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)?;
    bytes.get(end + 1..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_of_other_makers_are_recognised() {
        let safetensors = [&[64, 0, 0, 0, 0, 0, 0, 0][..], b"{\"__metadata__\":{}}"].concat();
        let tar = [&[b'x'; 257][..], b"ustar\0", &[0; 100]].concat();
        for (head, what, advice) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"[..],
                "Git LFS pointer",
                "git lfs pull",
            ),
            (b"PK\x03\x04..........archive/data.pkl", "PyTorch", "torch.onnx.export"),
            (b"PK\x03\x04...metadata.json...config.json", "Keras", "format=\"onnx\""),
            (b"PK\x03\x04...arr_0.npy", "npz", "export"),
            (b"PK\x03\x04...", "zip archive", "unpack"),
            (b"\x80\x04\x95", "pickle", "skl2onnx"),
            (b"\x89HDF\r\n\x1a\n", "HDF5", "tf2onnx"),
            (b"\x08\x01\x12\xd6\x84\x01\x0a\x20", "SavedModel", "tf2onnx"),
            (b"\x1c\0\0\0TFL3", "TensorFlow Lite", "--tflite"),
            (b"\x1c\0\0\0ORTM", "ORT format", "ONNX model"),
            (b"GGUF\x03\0\0\0", "GGUF", "optimum"),
            (&safetensors, "safetensors", "no graph"),
            (b"ptrt\0\0", "TensorRT", "made from"),
            (b"\x1f\x8b\x08", "gzip", "unpack"),
            (&tar, "tar", "unpack"),
            (&[0; 100], "zeros", "copy it anew"),
            (b"<!DOCTYPE html><html>", "web page", "downloaded"),
            (b"<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code>", "XML", "error"),
            (b"<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">", "OpenVINO", "made from"),
            (b"{\"learner\":{}}", "XGBoost", "onnxmltools"),
            (b"tree\nversion=v4", "LightGBM", "onnxmltools"),
            (b"hello\nworld", "text, which begins with \"hello\"", ".onnx file"),
            ("grüße".as_bytes(), "grüße", ".onnx file"),
        ] {
            let seems = recognise(head, 1000).map(|seems| seems.to_string()).unwrap_or_default();
            assert!(seems.contains(what) && seems.contains(advice), "{head:?}: {seems}");
        }
    }

    #[test]
    fn possible_models_are_left_to_onnx_runtime() {
        // As exporters begin: IR version, then the producer, the graph or the operator sets.
        for head in [
            &b"\x08\x08\x12\x07pytorch\x1a\x052.9.0"[..],
            b"\x08\x01\x12\x07skl2onn",
            b"\x08\x0a\x3a\xb2\x04\x0a",
            b"\x12\x07pytorch\x08\x08",
            b"\x3a\x10\x0a\x0a",
            b"\x42\x04\x0a\0\x10\x11\x08\x08",
            b"",
            b"\xff\xfe\xfd",
        ] {
            assert_eq!(recognise(head, 1000), None, "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn recognition_survives_any_bytes(head in prop::collection::vec(any::<u8>(), 0..300), size in any::<u64>()) {
            let _ = recognise(&head, size);
        }
    }
}
