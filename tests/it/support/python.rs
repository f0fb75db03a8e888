//! Real clients and the reference: Python with what `tests/python/requirements.txt` names, installed once into the user's
//! cache directory.

use onnxd::ort_library::fetch;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const REQUIREMENTS: &str = include_str!("../../python/requirements.txt");

/// Runs a script of `tests/python` with arguments and returns what it printed. `None` where Python or the packages can't be
/// had: the test is skipped by name, or fails where `ONNXD_TEST_REQUIRE` is set.
pub fn run(test: &str, script: &str, arguments: &[&str]) -> Option<String> {
    Some(run_with(test, &packages_for(test)?, script, arguments))
}

/// The same with packages of its own.
pub fn run_with(test: &str, packages: &Path, script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    python(test, packages, Command::new("python3").arg("-S").arg(path).args(arguments))
}

/// The same for a script that is given as text.
pub fn run_text(test: &str, text: &str) -> Option<String> {
    Some(python(test, &packages_for(test)?, Command::new("python3").args(["-S", "-c", text])))
}

/// The command has -S: without the packages that the machine has. Some spread over folders (google.protobuf), and halves would
/// be mixed.
pub fn python(test: &str, packages: &Path, command: &mut Command) -> String {
    let command = command
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // gRPC would ask a proxy for its way to this machine.
        .env("no_grpc_proxy", "127.0.0.1")
        // The reference must not report to its maker either.
        .env("ORT_DISABLE_TELEMETRY", "1");
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{test}: {command:?} failed: {}\n{out}\n{err}", output.status);
    out
}

/// The folder of the packages that scripts import. `None` where they can't be had, as for `run`.
pub fn packages_for(test: &str) -> Option<PathBuf> {
    packages_of(test, REQUIREMENTS)
}

/// The folder of other packages, as a file of requirements names them. `None` where they can't be had, as for `run`.
pub fn packages_of(test: &str, requirements: &str) -> Option<PathBuf> {
    required(test, "Python packages", installed(requirements, &["--only-binary=:all:"]))
}

/// The folder that one package without its dependencies is installed in, pinned by the SHA-256 of its archive: models come
/// in packages too. `None` where it can't be had, as for `run`.
pub fn package(test: &str, name: &str, version: &str, sha256: &str) -> Option<PathBuf> {
    let requirement = format!("{name}=={version} --hash=sha256:{sha256}\n");
    required(test, name, installed(&requirement, &["--no-deps", "--require-hashes"]))
}

/// Dependency of a test, unless the test is skipped for lack of it.
fn required(test: &str, what: &str, had: Result<PathBuf, String>) -> Option<PathBuf> {
    match had {
        Ok(folder) => Some(folder),
        Err(why) if std::env::var_os("ONNXD_TEST_REQUIRE").is_some() => panic!("{test} needs {what}: {why}"),
        Err(why) => {
            // Not by eprintln, which is shown only where a test fails.
            let _ = writeln!(io::stderr(), "SKIPPED {test}: {why}");
            None
        }
    }
}

/// The folder that requirements are installed in. Safe when two runs come at once: one installs, the other waits.
fn installed(requirements: &str, options: &[&str]) -> Result<PathBuf, String> {
    let cache = fetch::cache_directory().ok_or("there is no home directory for a cache")?;
    // Named by what is in it, so that other requirements, and another Python, get a folder of their own.
    let contents = format!("{}{requirements}", python_kind()?);
    let name = format!("test-python-{:016x}", fingerprint(&contents));
    let (folder, lock) = (cache.join(&name), cache.join(format!("{name}.lock")));
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    lock.lock().map_err(|error| error.to_string())?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let incoming = cache.join(format!("{name}.incoming"));
    let _ = fs::remove_dir_all(&incoming);
    // pip takes hashes from a file only.
    let listed = cache.join(format!("{name}.txt"));
    fs::write(&listed, requirements).map_err(|error| format!("{}: {error}", listed.display()))?;
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(options)
        .arg("--target")
        .arg(&incoming)
        .arg("-r")
        .arg(&listed)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("python3 can't be run: {error}"))?;
    if !pip.status.success() {
        return Err(format!("pip install failed: {}", String::from_utf8_lossy(&pip.stderr)));
    }
    fs::rename(&incoming, &folder).map_err(|error| error.to_string())?;
    Ok(folder)
}

/// Kind of Python that compiled packages depend on: implementation, version, system and processor.
fn python_kind() -> Result<String, String> {
    const SCRIPT: &str = "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform())";
    let printed = Command::new("python3").args(["-S", "-c", SCRIPT]).output();
    let printed = printed.map_err(|error| format!("python3 can't be run: {error}"))?;
    if !printed.status.success() {
        return Err(format!("python3 fails: {}", String::from_utf8_lossy(&printed.stderr)));
    }
    Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
}

/// FNV-1a, 64 bits.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
