//! Fetches a build of ONNX Runtime, and shows the progress.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    env,
    io::{self, Write as _},
};

use crate::{
    commands::output::print,
    ort_library::{
        self, ProviderLibrary,
        fetch::{self, InstallProgress, Wheel},
    },
};

/// Puts a build into the cache and prints where its library is.
pub(super) fn install(cuda: bool) -> Result<(), String> {
    let (os, arch) = (env::consts::OS, env::consts::ARCH);
    let build = if cuda { fetch::cuda_build(os, arch) } else { fetch::cpu_build(os, arch) };
    let build = build.ok_or_else(|| {
        let kind = if cuda { " for CUDA" } else { "" };
        format!(
            "PyPI has no ONNX Runtime {}{kind} for {os} {arch}; set ORT_DYLIB_PATH to one that you have",
            fetch::VERSION
        )
    })?;
    let cache = fetch::cache_directory();
    let cache = cache.ok_or("no home directory is known to keep it in: set ONNXD_CACHE_DIR to a folder for it")?;
    let mut console = InstallConsole::default();
    let library = fetch::install(build, &cache, &mut |step| console.report(&step));
    console.bar.finish_and_clear();
    let library = library.map_err(|error| error.to_string())?;
    if console.of == 0 {
        console.say("it is there already, all of it as it was fetched");
    }
    match ort_library::locate() {
        Ok(used) if used == library => console.say("a server that starts now uses it"),
        Ok(used) => {
            console.say(&format!("a server does not use it: {} goes before it, see `onnxd runtime`", used.display()));
        }
        Err(error) => console.say(&error.to_string()),
    }
    let missing = if cuda { ort_library::prepare(&library, ProviderLibrary::Cuda) } else { Vec::new() };
    for missing in missing {
        console.say(&format!("still missing for CUDA: {missing}"));
    }
    print(format!("{}\n", library.display()))
}

/// Stderr: lines, and on a terminal a bar below them.
struct InstallConsole {
    bar: ProgressBar,
    /// Number of wheels to fetch, and the current one.
    of: usize,
    at: usize,
    /// Bytes of the wheels that are done.
    done: u64,
}

impl Default for InstallConsole {
    fn default() -> Self {
        InstallConsole { bar: ProgressBar::hidden(), of: 0, at: 0, done: 0 }
    }
}

impl InstallConsole {
    fn report(&mut self, step: &InstallProgress<'_>) {
        match step {
            InstallProgress::Waiting => self.say("waiting for another process that fetches the same"),
            InstallProgress::Begin(folder, wheels) => {
                self.say(&format!("{}, into {}", needs(wheels), folder.display()));
                self.of = wheels.len();
                let total = wheels.iter().map(|wheel| wheel.size).sum();
                let style = ProgressStyle::with_template(
                    "{bar:30} {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec} {msg}",
                );
                self.bar = ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            }
            InstallProgress::Wheel(wheel) => {
                self.at += 1;
                let (package, version) = (wheel.package, wheel.version);
                self.say(&format!("[{}/{}] {package} {version}, {}", self.at, self.of, size(wheel.size)));
                self.bar.set_message("");
            }
            InstallProgress::Downloading(bytes) => self.bar.set_position(self.done + bytes),
            InstallProgress::Unpacking => self.bar.set_message("unpacking"),
            InstallProgress::Done(wheel) => {
                self.done += wheel.size;
                self.bar.set_position(self.done);
            }
        }
    }

    fn say(&self, line: &str) {
        // The reader of stderr may have gone; the fetch goes on.
        self.bar.suspend(|| drop(writeln!(io::stderr(), "{line}")));
    }
}

/// Download size and disk space that these wheels need, as text.
fn needs(wheels: &[&Wheel]) -> String {
    let download = wheels.iter().map(|wheel| wheel.size).sum();
    let unpacked = wheels.iter().map(|wheel| wheel.unpacked).sum();
    // pip copies the downloaded file before it removes it.
    let meanwhile = wheels.iter().map(|wheel| 2 * wheel.size).max().unwrap_or_default();
    let count = if let [_] = wheels { "1 wheel".to_owned() } else { format!("{} wheels", wheels.len()) };
    let (download, unpacked, meanwhile) = (size(download), size(unpacked), size(meanwhile));
    format!("{count}, {download} to download; {unpacked} on the disk then, and up to {meanwhile} more until it is done")
}

/// Size in decimal units, as pip and disks count.
fn size(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 1000.0 { format!("{megabytes:.0} MB") } else { format!("{:.1} GB", megabytes / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_notice_lists_download_and_disk_sizes() {
        let all: Vec<&Wheel> = fetch::cuda_build("linux", "x86_64").unwrap().wheels.iter().collect();
        assert_eq!(
            needs(&all),
            "8 wheels, 1.5 GB to download; 2.0 GB on the disk then, and up to 846 MB more until it is done"
        );
        assert!(needs(&all[..1]).starts_with("1 wheel, 423 MB to download"));
    }
}
