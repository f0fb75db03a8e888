//! Explains ONNX Runtime's messages to the person who has to act on them. Pure.

use super::failure_cause::FailureCause;
use crate::error::Failure;

/// The failure of a load that ONNX Runtime refused.
pub(super) fn failure(error: &ort::Error) -> Failure {
    let is_memory = FailureCause::of(error) == FailureCause::OutOfMemory;
    Failure { why: explained(&error.to_string(), is_memory), may_pass: is_memory }
}

/// ONNX Runtime's words with ours in front, where there are any.
fn explained(words: &str, is_memory: bool) -> String {
    // Its exceptions come with a line break.
    let words = words.trim();
    match hint(words, is_memory) {
        Some(hint) => format!("{hint}. ONNX Runtime says: {words}"),
        None => format!("ONNX Runtime can't load it: {words}"),
    }
}

fn hint(words: &str, is_memory: bool) -> Option<String> {
    operator(words).or_else(|| version(words)).or_else(|| surroundings(words, is_memory)).or_else(|| contents(words))
}

/// An operator that is not there.
fn operator(words: &str) -> Option<String> {
    const STANDARD: &str = "export the model with standard operators, or move that step into the client";
    if let Some(name) = between(words, "Fatal error: ", "(-1) is not a registered function/op") {
        let (domain, operator) = name.rsplit_once(':').unwrap_or(("", name));
        return Some(match domain {
            "com.microsoft" | "com.microsoft.nchwc" => format!(
                "it needs the operator '{operator}' of the domain '{domain}', a contrib operator that this build of ONNX \
                 Runtime lacks; {STANDARD}"
            ),
            "ai.onnx.contrib" => format!(
                "it needs the operator '{operator}' of the domain '{domain}', which onnxruntime-extensions has, and \
                 libraries of custom operators are not loaded; {STANDARD}"
            ),
            "" | "ai.onnx" | "ai.onnx.ml" => {
                format!("it needs the operator '{operator}', which ONNX Runtime does not know; {STANDARD}")
            }
            _ if domain.starts_with("ai.onnx.") => format!(
                "it needs the operator '{operator}' of ONNX's domain '{domain}', which this build of ONNX Runtime lacks; \
                 {STANDARD}"
            ),
            _ => format!(
                "it needs the custom operator '{operator}' of the domain '{domain}', and libraries of custom operators \
                 are not loaded; {STANDARD}"
            ),
        });
    }
    if let Some(domain) = between(words, "Error No opset import for domain '", "'") {
        return Some(format!(
            "it uses operators of the domain '{domain}' without importing an operator set of it, so the export is broken; \
             if they are custom operators: libraries of those are not loaded; {STANDARD}"
        ));
    }
    if let Some(operator) = between(words, "Error No Op registered for ", " with domain_version of ") {
        let version = between(words, "with domain_version of ", "").unwrap_or("its version");
        return Some(format!(
            "it needs the operator '{operator}', which operator set {version} does not have; export it with an operator set \
             that has it, or with standard operators"
        ));
    }
    let operator = between(words, "Could not find an implementation for ", " node with name")?;
    let (operator, since) = operator.trim_end_matches(')').split_once('(').unwrap_or((operator, "?"));
    Some(format!(
        "ONNX Runtime has no implementation on this device of the operator '{operator}' (of operator set {since}) for the \
         datatypes that the model uses it with: where they are BF16 or FP16, export the model in FP32; where they are others, \
         such as FP64 or a rare integer, cast the operator's inputs; where the operator set is below 7, convert it to a newer \
         one with onnx.version_converter; operators of training have no implementation at all"
    ))
}

/// A model from a time that this build does not know.
fn version(words: &str) -> Option<String> {
    if let Some(version) = between(words, "Unsupported model IR version: ", ",") {
        let most = between(words, "max supported IR version: ", "")?;
        return Some(format!(
            "its format (IR version {version}) is newer than what this build's ONNX Runtime reads (up to {most}): export it \
             with an older onnx package, or lower it (model.ir_version = {most}) where nothing newer is used"
        ));
    }
    if words.contains("under development and support for this is limited") {
        let version = between(words, "Opset ", " is under development")?;
        let domain = between(words, "Current official support for domain ", " is till opset ")?;
        let most = between(words, "is till opset ", "")?.trim_end_matches('.');
        return Some(format!(
            "it needs operator set {version} of {domain}, and this build's ONNX Runtime supports up to {most}: export it with \
             opset_version={most}, or convert it with onnx.version_converter"
        ));
    }
    None
}

/// Explains what the model lacks outside of its file.
fn surroundings(words: &str, is_memory: bool) -> Option<String> {
    if let Some(locale) = between(words, "Failed to construct locale with name:", ":") {
        return Some(format!(
            "it needs the locale '{locale}' (of StringNormalizer), which this machine does not have: install it (on Debian: \
             apt-get install locales, then locale-gen {locale}), or export the model with locale=\"C\""
        ));
    }
    if is_memory {
        return Some("there is not enough memory for it".into());
    }
    let broken = words.contains("are out of bounds or can not be read in full")
        || words.contains("external data size mismatch")
        || words.contains("Random-access reads require a regular file");
    broken.then(|| {
        "the file with its weights is not the one that was saved with it, or was cut short: copy both anew".into()
    })
}

/// The file itself is wrong.
fn contents(words: &str) -> Option<String> {
    if words.contains("rotobuf parsing failed") || words.contains("No graph was found in the protobuf") {
        return Some(
            "it is no complete ONNX model: it was cut short while it was copied or written, or is something else"
                .into(),
        );
    }
    let invalid = ["This is an invalid model", "Invalid model.", "Type Error:", "ShapeInferenceError", "Missing opset"];
    invalid.iter().any(|part| words.contains(part)).then(|| {
        "the model contradicts itself, so the export is broken: onnx.checker.check_model(path, full_check=True) tells more"
            .into()
    })
}

/// The text between two parts; an empty end means the end of the word.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    match end {
        "" => rest.split_whitespace().next(),
        _ => rest.split_once(end).map(|(part, _)| part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of ONNX Runtime 1.31.1, and what ours must say.
    #[rustfmt::skip]
    const MESSAGES: &[(&str, &[&str])] = &[
        ("Load model from m/ir99.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model.cc:256 onnxruntime::Model::Model(onnx::ModelProto&&, const onnxruntime::PathString&, const onnxruntime::IOnnxRuntimeOpSchemaRegistryList*, const onnxruntime::logging::Logger&, const onnxruntime::ModelOptions&) Unsupported model IR version: 99, max supported IR version: 13\n",
            &["IR version 99", "up to 13", "model.ir_version = 13"]),
        ("Load model from m/opset99.onnx failed:/onnxruntime_src/onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::model_load_utils::ValidateOpsetForDomain(const std::unordered_map<std::__cxx11::basic_string<char>, int>&, const onnxruntime::logging::Logger&, bool, const std::string&, int) ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 99 is under development and support for this is limited. The operator schemas and or other functionality may change before next ONNX release and in this case ONNX Runtime will not guarantee backward compatibility. Current official support for domain ai.onnx is till opset 26.\n",
            &["operator set 99 of ai.onnx", "up to 26", "opset_version=26"]),
        ("Load model from m/custom.onnx failed:Fatal error: com.acme:MyOp(-1) is not a registered function/op",
            &["custom operator 'MyOp'", "'com.acme'", "not loaded", "standard operators"]),
        ("Load model from m/contrib.onnx failed:Fatal error: com.microsoft:NoSuchContrib(-1) is not a registered function/op",
            &["'NoSuchContrib'", "'com.microsoft'", "contrib"]),
        ("Load model from m/ext_tok.onnx failed:Fatal error: ai.onnx.contrib:BertTokenizer(-1) is not a registered function/op",
            &["'BertTokenizer'", "onnxruntime-extensions"]),
        ("Load model from m/preview.onnx failed:Fatal error: ai.onnx.preview.training:Adam(-1) is not a registered function/op",
            &["'Adam'", "ONNX's domain 'ai.onnx.preview.training'", "this build of ONNX Runtime lacks"]),
        ("Load model from m/customnoimport.onnx failed:This is an invalid model. In Node, (\"\", MyOp, \"com.acme\", -1) : (\"x\": tensor(float),) -> (\"y\": tensor(float),) , Error No opset import for domain 'com.acme'",
            &["'com.acme'", "without importing", "not loaded"]),
        ("Load model from m/unknownop.onnx failed:This is an invalid model. In Node, (\"\", Addd, \"\", -1) : (\"x\": tensor(float),\"x\": tensor(float),) -> (\"y\": tensor(float),) , Error No Op registered for Addd with domain_version of 17",
            &["'Addd'", "operator set 17"]),
        ("Could not find an implementation for Add(14) node with name ''",
            &["'Add'", "operator set 14", "BF16", "FP32", "FP64", "cast"]),
        ("Exception during initialization: /onnxruntime_src/onnxruntime/core/providers/cpu/text/string_normalizer.cc:235 onnxruntime::StringNormalizer::Locale::Locale(const std::string&)::<lambda()> Failed to construct locale with name:en_US.UTF-8:locale::facet::_S_create_c_locale name not valid:Please, install necessary language-pack-XX and configure locales\n",
            &["locale 'en_US.UTF-8'", "locale-gen en_US.UTF-8", "locale=\"C\""]),
        ("Exception during initialization: /onnxruntime_src/onnxruntime/core/optimizer/initializer.cc:51 onnxruntime::Initializer::Initializer(const onnx::TensorProto&, const std::filesystem::__cxx11::path&) [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:1876 GetExtDataFromTensorProto External initializer: w offset: 0 size to read: 8 given file_length: 4 are out of bounds or can not be read in full.\n",
            &["cut short", "copy both"]),
        ("Load model from m/trunc.onnx failed:Protobuf parsing failed.", &["no complete ONNX model", "cut short"]),
        ("Failed to load model because protobuf parsing failed.", &["no complete ONNX model", "cut short"]),
        ("Load model from m/empty.onnx failed:No graph was found in the protobuf.", &["no complete ONNX model"]),
        ("Load model from m/outtype.onnx failed:Type Error: Type (tensor(int64)) of output arg (y) of node () does not match expected type (tensor(float)).",
            &["contradicts itself", "check_model"]),
        ("Load model from m/shapemis.onnx failed:Node () Op (MatMul) [ShapeInferenceError] Incompatible dimensions for matrix multiplication",
            &["contradicts itself"]),
        ("Load model from m/cyc.onnx failed:This is an invalid model. Error: the graph is not acyclic.", &["contradicts itself"]),
        ("Exception during loading: std::bad_alloc", &["not enough memory"]),
        ("/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 549755813888\n",
            &["not enough memory"]),
        ("something new", &["ONNX Runtime can't load it: something new"]),
    ];

    #[test]
    fn messages_are_explained_and_kept() {
        for (words, says) in MESSAGES {
            let explained = failure(&ort::Error::new(*words)).why;
            let unsaid: Vec<_> = says.iter().filter(|part| !explained.contains(**part)).collect();
            assert!(unsaid.is_empty(), "{unsaid:?} is not in: {explained}");
            assert!(explained.ends_with(words.trim()), "{explained}");
        }
    }

    #[test]
    fn memory_shortage_is_the_only_retryable_failure() {
        let passing: Vec<_> = MESSAGES
            .iter()
            .filter(|(words, _)| failure(&ort::Error::new(*words)).may_pass)
            .map(|(_, says)| says[0])
            .collect();
        assert_eq!(passing, ["not enough memory"; 2]);
    }
}
