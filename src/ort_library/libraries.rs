//! The libraries that a provider of ONNX Runtime needs, loaded before it from where they are, and named where they are missing.
//!
//! The loader takes a library that is loaded already for one that is needed by that name, wherever it came from. So nobody
//! has to say in `LD_LIBRARY_PATH` where CUDA is.

use std::{
    env,
    error::Error,
    ffi::c_int,
    fmt, fs, mem,
    path::{Path, PathBuf},
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::{advice::advice, elf_dependencies, fetch};

/// A library that a provider needs and that can't be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub library: String,
    /// Why, in the loader's words where it was asked.
    pub why: String,
    /// Its origin and how to get it.
    pub advice: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.library, self.advice, self.why)
    }
}

/// A provider that is a library of its own, which ONNX Runtime loads from beside its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderLibrary {
    /// For NVIDIA's GPUs.
    Cuda,
    /// For the same, by TensorRT.
    TensorRt,
}

impl ProviderLibrary {
    fn file_name(self) -> &'static str {
        match self {
            Self::Cuda => "libonnxruntime_providers_cuda.so",
            Self::TensorRt => "libonnxruntime_providers_tensorrt.so",
        }
    }
}

/// Library that every provider's library needs.
const SHARED: &str = "libonnxruntime_providers_shared.so";

/// Loads what a provider's library needs, for good: from beside the library of ONNX Runtime, from what was fetched into the
/// cache directory, or from where the system's loader finds it, which has `LD_LIBRARY_PATH`. Each that can't be loaded is named;
/// where there is none, the provider's library can be.
///
/// A GPU is not asked for: with all libraries there it may still be that there is none.
pub fn prepare(onnxruntime: &Path, provider: ProviderLibrary) -> Vec<Missing> {
    let beside = onnxruntime.parent().unwrap_or(Path::new("."));
    let absent = [provider.file_name(), SHARED].into_iter().find(|name| !beside.join(name).is_file());
    if let Some(name) = absent {
        return vec![missing(name, &format!("it is not in {}", beside.display()))];
    }
    let mut names = match elf_dependencies::named(&beside.join(provider.file_name())) {
        Ok(names) => names,
        Err(why) => return vec![missing(provider.file_name(), &why)],
    };
    let cuda = elf_dependencies::cuda_version(&names);
    if provider == ProviderLibrary::Cuda {
        names.extend(elf_dependencies::opened_later(&names));
    }
    let cached = fetch::cache_directory().zip(fetch::cuda_build(env::consts::OS, env::consts::ARCH));
    let cached = cached.map(|(cache, build)| build.folder(&cache));
    let folders: Vec<PathBuf> = [beside.to_owned()].into_iter().chain(cached).collect();
    load_all(&names, cuda, &folders)
}

fn load_all(names: &[String], cuda: Option<u32>, folders: &[PathBuf]) -> Vec<Missing> {
    let mut all: Vec<Missing> = Vec::new();
    for name in names {
        let failed = match load(name, folders) {
            Ok(library) if name == DRIVER => driver_is_old(&library, cuda).map(|why| missing(name, &why)),
            Ok(_) => None,
            Err(words) => Some(explained(name, &words, folders)),
        };
        all.extend(failed.filter(|failed| all.iter().all(|other| other.library != failed.library)));
    }
    all
}

const DRIVER: &str = "libcuda.so.1";

fn missing(library: &str, why: &str) -> Missing {
    Missing { library: library.to_owned(), why: why.to_owned(), advice: advice(library) }
}

/// Loads a library for good, or says why none of those that there are can be.
fn load(name: &str, folders: &[PathBuf]) -> Result<mem::ManuallyDrop<Library>, String> {
    let mut refused = None;
    for path in folders.iter().map(|folder| folder.join(name)).filter(|path| path.is_file()) {
        match open(&path) {
            Ok(library) => {
                open_builtins(&path);
                return Ok(library);
            }
            Err(words) => refused = refused.or(Some(words)),
        }
    }
    open(Path::new(name)).map_err(|absent| refused.unwrap_or(absent))
}

/// NVRTC has the system look for its builtins, whose name has a minor version: they are loaded with it.
fn open_builtins(path: &Path) {
    let is_nvrtc = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc.so."));
    for builtins in versions("libnvrtc-builtins.so.", path.parent()).filter(|_| is_nvrtc) {
        // Where that fails NVRTC says so itself when it is used.
        let _ = open(&builtins);
    }
}

#[allow(unsafe_code, reason = "loads a library")]
fn open(path: &Path) -> Result<mem::ManuallyDrop<Library>, String> {
    // With everything that it refers to, so that what does not fit is found now; and with names of its own, as ONNX Runtime's
    // package for Python loads them: who needs the library finds it by its name.
    // SAFETY: its initializers run. It is what ONNX Runtime loads itself when the provider is used, from where users, the system
    // or a pinned wheel have put it: nothing runs here that would not then. It stays loaded, so that nothing of it dangles.
    let opened = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
    let opened = opened.map(mem::ManuallyDrop::new);
    opened.map_err(|error| error.source().map_or_else(|| error.to_string(), ToString::to_string))
}

/// Why the driver is older than CUDA needs, where it is.
#[allow(unsafe_code, reason = "calls a function of the driver")]
fn driver_is_old(driver: &Library, cuda: Option<u32>) -> Option<String> {
    let mut version: c_int = 0;
    // SAFETY: this is its declaration in cuda.h. It may be called before anything else, and writes one integer.
    let status = unsafe {
        let get: Symbol<unsafe extern "C" fn(*mut c_int) -> c_int> = driver.get(c"cuDriverGetVersion").ok()?;
        get(&raw mut version)
    };
    // 13.0 is 13000.
    let (has, needs) = (u32::try_from(version).ok()?, cuda?);
    let is_old = status == 0 && has / 1000 < needs;
    is_old.then(|| format!("it is for CUDA {}.{}, and CUDA {needs} is needed", has / 1000, has % 1000 / 10))
}

/// The loader's words are of the library that is not there, which may be one that the named one needs in turn.
fn explained(name: &str, words: &str, folders: &[PathBuf]) -> Missing {
    let (subject, why) = words.split_once(": ").unwrap_or((name, words));
    let other = (subject != name && subject.starts_with("lib") && !subject.contains('/')).then_some(subject);
    if let Some(other) = other {
        return missing(other, &format!("{why} (needed by {name})"));
    }
    // A path says which one was refused.
    let why = if subject == name { why } else { words };
    match other_version(name, folders) {
        Some(path) => missing(name, &format!("{why}; {} is there, which is another version", path.display())),
        None => missing(name, why),
    }
}

/// A library of the same name but for the version, where people have theirs.
fn other_version(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let (stem, _) = name.rsplit_once('.')?;
    let prefix = format!("{stem}.");
    let named = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let usual = ["/usr/local/cuda/lib64".into(), "/usr/lib64".into(), multiarch()];
    let all = folders.iter().cloned().chain(env::split_paths(&named)).chain(usual);
    let mut found = all.flat_map(|folder| versions(&prefix, Some(&folder)).collect::<Vec<_>>());
    // The rest of its name is what has to fit, and it may be a link to it with more of a version.
    found.find(|path| path.file_name().is_some_and(|found| !found.to_string_lossy().starts_with(name)))
}

/// Where Debian has libraries.
fn multiarch() -> PathBuf {
    PathBuf::from(format!("/usr/lib/{}-linux-gnu", env::consts::ARCH))
}

/// The files of a folder whose names begin with what goes before a version.
fn versions(prefix: &str, folder: Option<&Path>) -> impl Iterator<Item = PathBuf> {
    let entries = folder.and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(move |path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(prefix).is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests;
