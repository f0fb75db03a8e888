//! Libraries that gcc makes here, under names that no other test and no system has.

use std::{fs, process, process::Command};

use super::*;

/// A folder of its own for a test.
fn scratch(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("onnxd-libraries-{}-{name}", process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Makes a library whose name is its file's, and returns that.
fn make(folder: &Path, name: &str, source: &str, needs: &[&str]) -> String {
    let source_file = folder.join("source.c");
    fs::write(&source_file, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.current_dir(folder).args(["-shared", "-fPIC", "-o", name, "source.c", "-Wl,--no-as-needed", "-L."]);
    gcc.arg(format!("-Wl,-soname,{name}")).args(needs.iter().map(|needed| format!("-l:{needed}")));
    assert!(gcc.status().unwrap().success());
    name.to_owned()
}

#[test]
fn libraries_are_loaded_by_name_once_they_are_loaded_by_path() {
    let folder = scratch("path");
    let (first, second) = (make(&folder, "libonnxdfirst.so.1", "", &[]), "libonnxdsecond.so.1");
    // It needs the first, and has no word of where that is.
    make(&folder, second, "", &[&first]);
    let names = [first.clone(), second.to_owned()];
    let all = load_all(&names, None, &[]);
    assert_eq!(all.iter().map(|missing| missing.library.as_str()).collect::<Vec<_>>(), names);
    assert!(all[0].why.starts_with("cannot open shared object file"), "{}", all[0]);

    // The one that can't be loaded alone says what is missing, once.
    let alone = load_all(&[second.to_owned(), first.clone()], None, std::slice::from_ref(&folder));
    assert_eq!(alone.len(), 1);
    assert!(alone[0].library == first && alone[0].why.contains("needed by libonnxdsecond.so.1"), "{alone:?}");

    assert_eq!(load_all(&names, None, std::slice::from_ref(&folder)), []);
    // Now they are there for everybody.
    assert_eq!(load_all(&names, None, &[]), []);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn broken_library_and_other_version_are_reported() {
    let folder = scratch("wrong");
    fs::write(folder.join("libonnxdtext.so.2"), "text").unwrap();
    fs::write(folder.join("libonnxdtext.so.1"), "text").unwrap();
    let names = ["libonnxdtext.so.2".to_owned(), "libonnxdtext.so.3".to_owned()];
    let all = load_all(&names, None, std::slice::from_ref(&folder));
    let path = folder.join("libonnxdtext.so.2").display().to_string();
    assert!(all[0].why.contains(&path) && all[0].why.contains("file too short"), "{}", all[0]);
    assert!(all[1].why.contains("is there, which is another version"), "{}", all[1]);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn old_driver_is_reported_with_its_cuda_version() {
    let folder = scratch("driver");
    let source = "int cuDriverGetVersion(int *version) { *version = 12040; return 0; }";
    make(&folder, "libonnxddriver.so.1", source, &[]);
    make(&folder, "libonnxdnodriver.so.1", "", &[]);
    let [driver, none] = ["libonnxddriver.so.1", "libonnxdnodriver.so.1"].map(|name| open(&folder.join(name)).unwrap());
    assert_eq!(driver_is_old(&driver, Some(13)).unwrap(), "it is for CUDA 12.4, and CUDA 13 is needed");
    assert_eq!(driver_is_old(&driver, Some(12)), None);
    assert_eq!(driver_is_old(&none, Some(13)), None);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn build_without_the_provider_is_reported() {
    let folder = scratch("cpu");
    for provider in [ProviderLibrary::Cuda, ProviderLibrary::TensorRt] {
        let all = prepare(&folder.join("libonnxruntime.so"), provider);
        assert_eq!(all.len(), 1);
        let message = all[0].to_string();
        assert!(
            message.starts_with(provider.file_name()) && message.contains("this is a build of ONNX Runtime"),
            "{message}"
        );
    }
    fs::write(folder.join(SHARED), "").unwrap();
    fs::write(folder.join(ProviderLibrary::Cuda.file_name()), "no library").unwrap();
    let all = prepare(&folder.join("libonnxruntime.so"), ProviderLibrary::Cuda);
    assert!(all.len() == 1 && all[0].library == ProviderLibrary::Cuda.file_name(), "{all:?}");
    fs::remove_dir_all(&folder).unwrap();
}
