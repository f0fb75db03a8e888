//! Reads the libraries that a provider's library needs.

use std::fs::File;
use std::path::Path;

use object::{
    Endianness,
    elf::{DT_NEEDED, FileHeader64},
    read::{
        ReadCache,
        elf::{Dyn, FileHeader},
    },
};

/// The libraries that a library names as needed to be loaded at all.
pub(super) fn named(library: &Path) -> Result<Vec<String>, String> {
    let file = ReadCache::new(File::open(library).map_err(|error| error.to_string())?);
    read(&file).map_err(|error| error.to_string())
}

fn read(file: &ReadCache<File>) -> object::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(file)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, file)?;
    let Some((entries, strings)) = sections.dynamic(endian, file)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, file, strings)?;
    let needed = entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED);
    needed.map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned())).collect()
}

/// The libraries that what is named opens by itself once it runs, by the version of CUDA that is named. All of them are found
/// beside the one that opens them but NVRTC's builtins, which NVRTC has the system look for.
pub(super) fn opened_later(named: &[String]) -> Vec<String> {
    let Some(cuda) = cuda_version(named) else { return Vec::new() };
    let cufft = if cuda >= 13 { 12 } else { 11 };
    // cuDNN's main library only opens others. This one is always among them, and needs zlib.
    let cudnn = ["libcudnn.so.9".to_owned(), "libcudnn_graph.so.9".to_owned()];
    cudnn.into_iter().chain([format!("libcufft.so.{cufft}"), format!("libnvrtc.so.{cuda}")]).collect()
}

/// The major version of CUDA that the libraries are of.
pub(super) fn cuda_version(named: &[String]) -> Option<u32> {
    named.iter().find_map(|name| name.strip_prefix("libcudart.so.")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executable_names_its_libraries() {
        if cfg!(target_os = "linux") {
            let named = named(&std::env::current_exe().unwrap()).unwrap();
            assert!(named.iter().any(|name| name == "libc.so.6"), "{named:?}");
        }
        let error = super::named(Path::new(file!())).unwrap_err();
        assert!(!error.is_empty());
    }

    #[test]
    fn later_libraries_match_the_named_cuda_version() {
        let of = |names: &[&str]| opened_later(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let cudnn = ["libcudnn.so.9", "libcudnn_graph.so.9"];
        assert_eq!(of(&["libc.so.6", "libcudart.so.13"])[..2], cudnn);
        assert_eq!(of(&["libcudart.so.13"])[2..], ["libcufft.so.12", "libnvrtc.so.13"]);
        assert_eq!(of(&["libcudart.so.12"])[2..], ["libcufft.so.11", "libnvrtc.so.12"]);
        assert!(of(&["libc.so.6"]).is_empty());
    }
}
