//! Installations from small wheels in a folder, by the real pip.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder with wheels, a Python that looks for them there and nowhere else, and a cache.
struct Index {
    root: PathBuf,
    build: Build,
    python: String,
}

impl Index {
    /// With a build of two wheels.
    fn new(name: &str) -> Self {
        let root = env::temp_dir().join(format!("onnxd-fetch-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("index")).unwrap();
        let at = root.display();
        let python = format!("echo \"$@\" >> {at}/calls\nPIP_NO_INDEX=1 PIP_FIND_LINKS={at}/index exec python3 \"$@\"");
        let python = script(&root, &python);
        let wheels = vec![
            add(&root, "onnxd-test-first", &["lib/libfirst.so.1", "onnxd_test_first-1.dist-info/License.txt"]),
            add(&root, "onnxd-test-second", &["lib/libsecond.so.1"]),
        ];
        let build =
            Build { name: "test", os: "os", arch: "arch", library: "libsecond.so.1", wheels: Vec::leak(wheels) };
        Index { build, python, root }
    }

    fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    fn folder(&self) -> PathBuf {
        self.build.folder(&self.cache())
    }

    /// Installs, and returns the packages that were fetched.
    fn install(&self, python: &str) -> Result<Vec<&'static str>, FetchError> {
        let mut fetched = Vec::new();
        install_with(&self.build, &self.cache(), &[python], &mut |step| {
            if let InstallProgress::Done(wheel) = step {
                fetched.push(wheel.package);
            }
        })?;
        Ok(fetched)
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.folder()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Writes what is run in place of Python.
fn script(root: &Path, commands: &str) -> String {
    let path = root.join(format!("python{}", fs::read_dir(root).unwrap().count()));
    // By a process that ends: a file that this one had open could be open in the child of another thread for a moment more,
    // and is not run as long.
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod +x \"$0\"";
    let written = process::Command::new("sh").args(["-c", write]).arg(&path).arg(commands).status().unwrap();
    assert!(written.success());
    path.to_str().unwrap().into()
}

/// Writes a wheel whose files hold their own paths.
fn add(root: &Path, package: &'static str, files: &'static [&'static str]) -> Wheel {
    let stem = format!("{}-1", package.replace('-', "_"));
    let archive = root.join(format!("index/{stem}-py3-none-any.whl"));
    let mut writer = zip::ZipWriter::new(File::create(&archive).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    let about = format!("{stem}.dist-info/");
    let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1\n");
    let tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let own = [(format!("{about}METADATA"), metadata.as_str()), (format!("{about}WHEEL"), tag)];
    let rest = files.iter().chain(&["lib/libunused.so"]).map(|path| ((*path).to_owned(), *path));
    for (path, content) in own.into_iter().chain(rest) {
        writer.start_file(path, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    let sha256: &str = String::leak(unpack::hash_of(&archive).unwrap());
    let platform = "manylinux_2_28_x86_64";
    Wheel { package, version: "1", platform, sha256, size: 1, unpacked: 1, files }
}

const NO_PYTHON: &str = "/no/such/python";

#[test]
fn cache_directory_follows_the_environment() {
    let of = |pairs: &[(&str, &str)], home: Option<&str>, os| {
        let variable = |name: &str| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into());
        cache_directory_from(variable, home.map(PathBuf::from), os).map(|path| path.display().to_string())
    };
    let (own, xdg, home) = (("ONNXD_CACHE_DIR", "/own"), ("XDG_CACHE_HOME", "/xdg"), Some("/home"));
    assert_eq!(of(&[own, xdg], home, "linux").unwrap(), "/own");
    assert_eq!(of(&[("ONNXD_CACHE_DIR", ""), xdg], home, "linux").unwrap(), "/xdg/onnxd");
    assert_eq!(of(&[("XDG_CACHE_HOME", "xdg")], home, "linux").unwrap(), "/home/.cache/onnxd");
    assert_eq!(of(&[], home, "macos").unwrap(), "/home/Library/Caches/onnxd");
    assert_eq!(of(&[], None, "linux"), None);
}

#[test]
fn install_unpacks_the_needed_files_once() {
    let index = Index::new("once");
    assert!(!index.build.is_complete(&index.cache()));
    assert_eq!(index.install(&index.python).unwrap(), ["onnxd-test-first", "onnxd-test-second"]);
    assert!(index.build.is_complete(&index.cache()));
    let names = index.names().into_iter().collect::<Vec<_>>();
    let wanted = [
        "libfirst.so.1",
        "libsecond.so.1",
        "lock",
        "onnxd-test-first-1.sha256",
        "onnxd-test-first-License.txt",
        "onnxd-test-second-1.sha256",
    ];
    assert_eq!(names, wanted);
    let library = index.build.library_path(&index.cache());
    assert_eq!(fs::read_to_string(library).unwrap(), "lib/libsecond.so.1");

    // pip is not called again.
    assert!(index.install(NO_PYTHON).unwrap().is_empty());
}

#[test]
fn install_fetches_only_incomplete_wheels_again() {
    let index = Index::new("again");
    index.install(&index.python).unwrap();
    let (folder, cache) = (index.folder(), index.cache());

    // Leftovers of a process that was killed while it fetched, and a file that was damaged since.
    fs::create_dir_all(folder.join("incoming-1/pip-unpack")).unwrap();
    // Entries of unknown origin.
    fs::write(folder.join("incoming-2"), "").unwrap();
    std::os::unix::fs::symlink(&index.root, folder.join("incoming-3")).unwrap();
    fs::write(folder.join("libsecond.so.1"), "cut").unwrap();
    assert!(matches!(index.install(NO_PYTHON), Err(FetchError::NoPip(_))));
    assert!(!index.build.is_complete(&cache));
    assert_eq!(index.install(&index.python).unwrap(), ["onnxd-test-second"]);
    assert!(index.build.is_complete(&cache));
    assert!(index.names().iter().all(|name| !name.starts_with(INCOMING)) && index.root.join("index").exists());

    // Files that have come, and no list yet that says so.
    fs::remove_file(folder.join("onnxd-test-first-1.sha256")).unwrap();
    assert!(!index.build.is_complete(&cache));
    assert_eq!(index.install(&index.python).unwrap(), ["onnxd-test-first"]);
    assert!(index.build.is_complete(&cache));
}

/// To open a pipe is to wait for its other end.
#[test]
fn install_does_not_block_on_pipes() {
    let index = Index::new("pipe");
    index.install(&index.python).unwrap();
    let pipe = |name: &str| {
        let path = index.folder().join(name);
        fs::remove_file(&path).unwrap();
        assert!(process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    };
    pipe("libfirst.so.1");
    pipe("onnxd-test-second-1.sha256");
    assert_eq!(index.install(&index.python).unwrap(), ["onnxd-test-first", "onnxd-test-second"]);
    assert!(index.install(NO_PYTHON).unwrap().is_empty());

    pipe("libsecond.so.1");
    let lock = pipe("lock");
    let error = index.install(&index.python).unwrap_err().to_string();
    assert!(error.contains(&format!("cannot lock {}: it is not a regular file", lock.display())), "{error}");
}

#[test]
fn install_accepts_only_the_pinned_wheel() {
    let index = Index::new("pinned");
    let root = index.root.display().to_string();
    let (first, other) = ("onnxd_test_first-1-py3-none-any.whl", "onnxd_test_second-1-py3-none-any.whl");
    fs::rename(format!("{root}/index/{other}"), format!("{root}/index/{first}")).unwrap();
    let error = index.install(&index.python).unwrap_err();
    assert!(matches!(&error, FetchError::Pip(..)), "{error}");

    // A pip that doesn't look.
    let careless = script(&index.root, &format!("for to; do :; done\ncp {root}/index/{first} \"$to\""));
    let error = index.install(&careless).unwrap_err();
    assert!(matches!(&error, FetchError::Mismatch(..)) && error.to_string().contains("onnxd-test-first 1"), "{error}");
    assert_eq!(index.names(), BTreeSet::from(["lock".to_owned()]));
}

#[test]
fn concurrent_installs_fetch_each_wheel_once() {
    let index = Index::new("two");
    let fetched = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let count = index.install(&index.python).unwrap().len();
                fetched.fetch_add(u32::try_from(count).unwrap(), Ordering::Relaxed);
                assert!(index.build.is_complete(&index.cache()));
            });
        }
    });
    assert_eq!(fetched.into_inner(), 2);
    assert_eq!(fs::read_to_string(index.root.join("calls")).unwrap().lines().count(), 2);
}

#[test]
fn missing_pip_error_names_the_fix() {
    let index = Index::new("none");
    let error = index.install(NO_PYTHON).unwrap_err().to_string();
    assert!(error.contains("/no/such/python: No such file"), "{error}");
    assert!(error.contains("Install Python 3") && error.contains("ORT_DYLIB_PATH"), "{error}");
}

#[test]
fn full_disk_error_names_the_cause() {
    let index = Index::new("full");
    let python = script(&index.root, "echo 'Traceback\nOSError: [Errno 28] No space left on device' >&2; exit 2");
    let error = index.install(&python).unwrap_err().to_string();
    assert!(error.contains("cannot download onnxd-test-first 1") && error.contains("Make room"), "{error}");
    assert!(!error.contains("Traceback"), "{error}");
}

#[test]
fn pinned_builds_are_complete() {
    let all = [("linux", "x86_64"), ("linux", "aarch64"), ("macos", "aarch64")];
    let builds: Vec<_> =
        all.iter().flat_map(|(os, arch)| [cpu_build(os, arch), cuda_build(os, arch)]).flatten().collect();
    assert_eq!(builds.len(), 5);
    for build in builds {
        let names: Vec<_> = build.wheels.iter().flat_map(Wheel::contents).map(|(_, name)| name).collect();
        assert!(names.iter().any(|name| name == build.library), "{build:?}");
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        for wheel in build.wheels {
            assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()), "{wheel:?}");
            let stem = format!("{}-{}.dist-info", wheel.package.replace('-', "_"), wheel.version);
            let has_notice = |path: &&str| path.contains(&stem) || path.ends_with("LICENSE");
            assert!(wheel.files.iter().any(has_notice), "{wheel:?}");
        }
    }
}
