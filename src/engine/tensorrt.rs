//! TensorRT: the options beside those of the configuration, which are the shapes that engines are built for, and the folders in which
//! they and the times of their kernels are cached. To build them takes minutes.
//!
//! **It was never run on a GPU**: no machine of this project has TensorRT. What stands here follows the documentation of ONNX
//! Runtime's provider, and the tests hold it on the CPU. Besides this file only the provider's name occurs: [`Provider::TensorRt`],
//! in the settings, and where its library is fetched.
//!
//! [`Provider::TensorRt`]: super::target::Provider::TensorRt

use ort::sys;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

use super::{
    explain,
    model_file::{ModelFile, onnx::ValueInfoProto},
    provider::register_with_object,
    target::Target,
};
use crate::{config::provider_options::TENSORRT_PREFIX, error::Failure};

/// Folder of TensorRT in the cache.
const CACHE_FOLDER: &str = "tensorrt";

/// Options that name folders.
const FOLDERS: [&str; 2] = ["trt_engine_cache_path", "trt_timing_cache_path"];

/// The options for a model on a GPU of this name. The folders in them are made, as the provider makes the last one of a path only;
/// where they can't be, nothing is kept.
pub(super) fn prepared(target: &Target, gpu: u32, gpu_name: &str, file: &ModelFile) -> BTreeMap<String, String> {
    let options = options(target, gpu, gpu_name, file);
    let made = FOLDERS.iter().filter_map(|key| options.get(*key)).try_for_each(|folder| {
        fs::create_dir_all(folder).map_err(|error| format!("the folder {folder} can't be made: {error}"))
    });
    match made {
        Ok(()) => options,
        Err(why) => {
            tracing::warn!(error = why, "TensorRT cache unavailable, every load builds its engines");
            self::options(&Target { cache: None, ..target.clone() }, gpu, gpu_name, file)
        }
    }
}

/// The options for a model on a GPU of this name. Those of the configuration win.
fn options(target: &Target, gpu: u32, gpu_name: &str, file: &ModelFile) -> BTreeMap<String, String> {
    let mut options = BTreeMap::from([("device_id".to_owned(), gpu.to_string())]);
    let profile = target.splits.then(|| profile(&file.inputs, target.max_batch_size)).flatten();
    for (key, shapes) in profile.into_iter().flatten() {
        options.insert(key.into(), shapes);
    }
    options.extend(given_options(target));
    if let Some(cache) = &target.cache {
        let gpu = cache.join(CACHE_FOLDER).join(folder_name(gpu_name));
        let engines = gpu.join(key(file, &options));
        for (key, value) in [
            ("trt_engine_cache_enable", "1".into()),
            ("trt_engine_cache_path", text(&engines)),
            ("trt_timing_cache_enable", "1".into()),
            // It holds nothing of a model.
            ("trt_timing_cache_path", text(&gpu)),
        ] {
            options.entry(key.into()).or_insert(value);
        }
    }
    options
}

/// The failure of a load that ONNX Runtime refused. An engine that is cached and can't be read is removed, so that the next try
/// builds it again: whoever wrote it was killed or had no room on the disk, or another server is just writing it.
pub(super) fn failure(error: &ort::Error, target: &Target) -> Failure {
    let failure = explain::failure(error);
    let removed = target.cache.as_deref().and_then(|cache| remove_unreadable(&error.to_string(), cache));
    match removed {
        Some(engine) => Failure::passing(format!(
            "the engine that was kept for it can't be read: {engine} has been removed, to be built anew. {}",
            failure.why
        )),
        None => failure,
    }
}

/// Removes the engine that these words are about, if it is one that is kept here.
fn remove_unreadable(words: &str, cache: &Path) -> Option<String> {
    let (_, engine) = words.split_once("could not deserialize engine from cache: ")?;
    let engine = engine.lines().next()?.trim();
    let is_ours = Path::new(engine).starts_with(cache.join(CACHE_FOLDER)) && engine.ends_with(".engine");
    (is_ours && fs::remove_file(engine).is_ok()).then(|| engine.to_owned())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Key of an engine. TensorRT's provider finds them by the graph and the version of TensorRT alone: two versions of a
/// model, which have other weights in the same graph, would get one engine.
fn key(file: &ModelFile, options: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    add(&file.encoded);
    for file in &file.weights {
        file.names.iter().for_each(|name| add(name.as_os_str().as_encoded_bytes()));
        add(&file.contents);
    }
    // Such as FP16.
    for (key, value) in options {
        add(key.as_bytes());
        add(value.as_bytes());
    }
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// The options of the configuration that are TensorRT's.
fn given_options(target: &Target) -> impl Iterator<Item = (String, String)> {
    let own = target.options.iter().filter(|(key, _)| key.starts_with(TENSORRT_PREFIX));
    own.map(|(key, value)| (key.clone(), value.clone()))
}

register_with_object!(
    /// Has a session run by TensorRT.
    register: sys::OrtTensorRTProviderOptionsV2,
    CreateTensorRTProviderOptions,
    UpdateTensorRTProviderOptions,
    SessionOptionsAppendExecutionProvider_TensorRT_V2,
    ReleaseTensorRTProviderOptions
);

/// A GPU's name as that of a folder.
fn folder_name(gpu: &str) -> String {
    gpu.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect()
}

/// The shapes of the inputs in an engine's one profile: the least, those that it is fastest for, and the greatest. Batches have
/// any number of rows up to a power of two, and mostly few: it is fastest for the one in the middle. `None` where more than
/// the batch is open: then TensorRT goes by the shapes that come, and builds again for those that it has not seen.
fn profile(inputs: &[ValueInfoProto], max_batch_size: usize) -> Option<[(&'static str, String); 3]> {
    let most = i64::try_from(max_batch_size.next_power_of_two().max(PROBED)).ok()?;
    let best = 1 << (most.ilog2() / 2);
    let mut shapes = Vec::new();
    let mut batch = None;
    for input in inputs {
        let tensor = input.kind.as_ref()?.tensor.as_ref()?;
        let (first, inner) = match tensor.shape.as_ref()?.dimensions.split_first() {
            Some((first, inner)) if first.extent.is_none() => (first, inner),
            // A fixed shape needs no profile.
            Some((_, inner)) if inner.iter().all(|axis| axis.extent.is_some()) => continue,
            Some(_) => return None,
            None => continue,
        };
        // Axes with other names have other extents.
        let name = first.name.as_deref().filter(|name| !name.is_empty())?;
        if *batch.get_or_insert(name) != name || input.name.contains(',') {
            return None;
        }
        let inner = inner.iter().map(|axis| axis.extent.map(|extent| format!("x{extent}")));
        shapes.push((&input.name, inner.collect::<Option<String>>()?));
    }
    let with =
        |rows: i64| shapes.iter().map(|(name, inner)| format!("{name}:{rows}{inner}")).collect::<Vec<_>>().join(",");
    (!shapes.is_empty()).then(|| {
        [
            ("trt_profile_min_shapes", with(1)),
            ("trt_profile_opt_shapes", with(best)),
            ("trt_profile_max_shapes", with(most)),
        ]
    })
}

/// Rows that a model is probed with, however many a batch may have.
const PROBED: usize = 4;

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::{
        super::{
            model_file::onnx::{DimensionProto, TensorShapeProto, TensorTypeProto, TypeProto},
            target::Provider,
        },
        *,
    };

    /// Axes: a number is an extent, all else a name.
    fn input(name: &str, axes: &[&str]) -> ValueInfoProto {
        let axis = |text: &&str| match text.parse() {
            Ok(extent) => DimensionProto { extent: Some(extent), name: None },
            Err(_) => DimensionProto { extent: None, name: Some((*text).to_owned()) },
        };
        let shape = Some(TensorShapeProto { dimensions: axes.iter().map(axis).collect() });
        ValueInfoProto {
            name: name.into(),
            kind: Some(TypeProto { tensor: Some(TensorTypeProto { element: 1, shape }) }),
        }
    }

    #[test]
    fn profile_spans_the_batch_sizes() {
        let shapes =
            |inputs: &[ValueInfoProto], rows| profile(inputs, rows).map(|shapes| shapes.map(|(_, shapes)| shapes));
        let image = || input("image:0", &["batch", "3", "224", "224"]);
        let expected = ["image:0:1x3x224x224", "image:0:8x3x224x224", "image:0:64x3x224x224"].map(str::to_owned);
        assert_eq!(shapes(&[image()], 64), Some(expected.clone()));
        // A fixed one needs none, and batches of up to 33 rows are of the bucket of 64.
        assert_eq!(shapes(&[image(), input("scale", &["1"]), input("bias", &[])], 33), Some(expected));
        assert_eq!(shapes(&[input("x", &["n"])], 1), Some(["x:1", "x:2", "x:4"].map(str::to_owned)));
        let two = shapes(&[input("x", &["n", "2"]), input("y", &["n"])], 16);
        assert_eq!(two, Some(["x:1x2,y:1", "x:4x2,y:4", "x:16x2,y:16"].map(str::to_owned)));
        let untyped = ValueInfoProto { name: "x".into(), kind: None };
        for open in [
            vec![input("x", &["batch", "length"])],
            vec![input("x", &["1", "length"])],
            vec![input("x", &["a"]), input("y", &["b"])],
            vec![input("x", &[""])],
            vec![input("x,y", &["n"])],
            vec![input("x", &["1", "3"])],
            vec![untyped],
            vec![],
        ] {
            assert_eq!(shapes(&open, 64), None, "{open:?}");
        }
    }

    #[test]
    fn engine_cache_separates_weights_options_and_gpus() {
        let file = |encoded: &[u8]| ModelFile {
            encoded: encoded.to_vec(),
            weights: Vec::new(),
            labels: BTreeMap::new(),
            uneven: None,
            hazard: None,
            zero_extents: crate::engine::NeedsElements::default(),
            unwritten: None,
            rows: crate::engine::RowAnalysis::default(),
            inputs: vec![input("x", &["n", "2"])],
            digest: std::sync::OnceLock::default(),
        };
        let target = |options: &[(&str, &str)]| Target {
            provider: Provider::TensorRt { gpu: 1 },
            options: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            cache: Some("/cache".into()),
            splits: true,
            max_batch_size: 8,
            ..Target::cpu(NonZeroUsize::MIN)
        };
        let place = |options: &[(&str, &str)], gpu: &str, model: &[u8]| {
            self::options(&target(options), 1, gpu, &file(model))["trt_engine_cache_path"].clone()
        };
        let first = place(&[], "NVIDIA A10", b"one");
        assert!(first.starts_with("/cache/tensorrt/NVIDIA-A10/"), "{first}");
        assert_eq!(first, place(&[], "NVIDIA A10", b"one"));
        assert_ne!(first, place(&[], "NVIDIA A10", b"two"));
        assert_ne!(first, place(&[], "NVIDIA L4", b"one"));
        assert_ne!(first, place(&[("trt_fp16_enable", "1")], "NVIDIA A10", b"one"));
        assert_eq!(place(&[("trt_engine_cache_path", "/own")], "NVIDIA A10", b"one"), "/own");

        let options = self::options(&target(&[("use_tf32", "1"), ("trt_fp16_enable", "1")]), 1, "L4", &file(b"one"));
        assert_eq!(options["device_id"], "1");
        assert_eq!(options["trt_fp16_enable"], "1");
        assert_eq!(options["trt_profile_max_shapes"], "x:8x2");
        assert_eq!(options["trt_timing_cache_path"], "/cache/tensorrt/L4");
        assert!(!options.contains_key("use_tf32"));
    }

    #[test]
    fn engine_cache_creates_its_folders_or_is_off() {
        let file = ModelFile {
            encoded: b"model".to_vec(),
            weights: Vec::new(),
            labels: BTreeMap::new(),
            uneven: None,
            hazard: None,
            zero_extents: crate::engine::NeedsElements::default(),
            unwritten: None,
            rows: crate::engine::RowAnalysis::default(),
            inputs: vec![input("x", &["n", "2"])],
            digest: std::sync::OnceLock::default(),
        };
        let root = tempfile::tempdir().unwrap();
        let prepared = |cache: &str| {
            let target = Target { cache: Some(root.path().join(cache)), ..Target::cpu(NonZeroUsize::MIN) };
            prepared(&target, 0, "NVIDIA L4", &file)
        };
        let kept = prepared("new/cache");
        assert!(FOLDERS.iter().all(|key| Path::new(&kept[*key]).is_dir()), "{kept:?}");
        assert_eq!(kept, prepared("new/cache"), "they are there");
        fs::write(root.path().join("file"), "").unwrap();
        let not_kept = prepared("file");
        assert_eq!(not_kept.keys().collect::<Vec<_>>(), ["device_id"]);
    }

    #[test]
    fn unreadable_cached_engine_is_removed_for_a_retry() {
        let root = tempfile::tempdir().unwrap();
        let target = Target { cache: Some(root.path().into()), ..Target::cpu(NonZeroUsize::MIN) };
        let own = root.path().join("tensorrt/L4/0a/TensorrtExecutionProvider_x_sm89.engine");
        let theirs = root.path().join("theirs.engine");
        fs::create_dir_all(own.parent().unwrap()).unwrap();
        for engine in [&own, &theirs] {
            fs::write(engine, "half").unwrap();
        }
        let refused = |engine: &Path| {
            let words = "TensorRT EP could not deserialize engine from cache: ";
            failure(&ort::Error::new(format!("Exception: {words}{}\n", engine.display())), &target)
        };
        let failed = refused(&own);
        assert!(failed.may_pass && failed.why.contains("has been removed") && !own.exists(), "{failed:?}");
        // Engines in another folder, and those that can't be removed, stay.
        for engine in [&theirs, &own] {
            let failed = refused(engine);
            assert!(!failed.may_pass && failed.why.contains("could not deserialize"), "{failed:?}");
        }
        assert!(theirs.exists());
    }
}
