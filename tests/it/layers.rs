//! The layers of the crate, file by file: what a file may import, where a crate may be named, how long a file may be.
//!
//! The chart of the layers stands in `ARCHITECTURE.md`, and is read from there.

mod chart;
mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use chart::Chart;
use imports::{File, Module, Sources};

/// Crates that only these rooms name.
const ONLY_IN: [(&str, &[&str]); 9] = [
    ("ort", &["engine"]),
    ("arc_swap", &["router"]),
    ("tonic", &["api"]),
    ("axum", &["api", "server"]),
    ("hyper", &["api", "server", "commands"]),
    ("serde_json", &["api", "commands", "json", "state", "loader"]),
    ("clap", &["commands", "main"]),
    ("notify", &["registry"]),
    ("nvml_wrapper", &["host"]),
];

/// Lines of a file at most.
const MAX_LINES: usize = 500;

#[test]
fn imports_go_down_the_layers() {
    let chart = Chart::read();
    let sources = Sources::read();
    for file in sources.files() {
        for (imported, path) in sources.imports(file) {
            assert!(!imported.is_empty(), "{} imports crate::{path}: no file has it", file.path.display());
            assert!(
                chart.allows(&file.module, &imported),
                "{} imports crate::{path}: the chart in ARCHITECTURE.md has no way from {} to {}",
                file.path.display(),
                chart.room(&file.module),
                chart.room(&imported)
            );
        }
    }
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let sources = Sources::read();
    let graph: BTreeMap<Module, BTreeMap<Module, String>> =
        sources.files().map(|file| (file.module.clone(), sources.imports(file))).collect();
    let circles = imports::circles(&graph);
    let shown = |circle: &Vec<Module>| {
        let circle: BTreeSet<_> = circle.iter().collect();
        let edges = circle.iter().flat_map(|from| {
            let to = graph[*from].iter().filter(|(to, _)| circle.contains(to));
            to.map(move |(to, path)| format!("\n  {} -> {} by {path}", from.join("/"), to.join("/")))
        });
        edges.collect::<String>()
    };
    let all: Vec<_> = circles.iter().map(shown).collect();
    assert!(all.is_empty(), "{} circles:{}", all.len(), all.join("\n"));
}

#[test]
fn crates_stay_in_their_rooms() {
    for file in Sources::read().files() {
        for (name, rooms) in ONLY_IN {
            let room = file.module.first().map_or("lib", String::as_str);
            assert!(
                !file.names_crate(name) || rooms.contains(&room),
                "{} names {name}, which belongs in {rooms:?}",
                file.path.display()
            );
        }
    }
}

/// A clock before 1970 would panic where a date is formatted.
#[test]
fn system_clock_is_read_in_one_room() {
    for file in Sources::read().files() {
        let reads = file.names("SystemTime::now");
        let is_clock = file.module.first().is_some_and(|room| room == "clock");
        assert!(!reads || is_clock, "{} reads the system's clock: clock::now() is clamped", file.path.display());
    }
}

/// All protocols share one pipeline: a second call would be a second way of a request.
#[test]
fn requests_are_routed_and_logged_in_one_place() {
    for (call, place) in
        [("router.submit(", "src/api/inference/stages.rs"), ("record.end(", "src/api/inference/respond.rs")]
    {
        let mut places = Vec::new();
        for File { path, module, .. } in Sources::read().files() {
            let calls = fs::read_to_string(path).unwrap().matches(call).count();
            // The check command is a client of its own, without a protocol.
            if calls > 0 && module[0] != "commands" {
                places.push((path.strip_prefix(root()).unwrap().display().to_string(), calls));
            }
        }
        assert_eq!(places, [(place.to_owned(), 1)], "{call}");
    }
}

/// Code that only tests need stands in modules of its own: the server that is tested is the one that serves.
#[test]
fn code_for_tests_is_in_modules() {
    for File { path, .. } in Sources::read().files() {
        let text = fs::read_to_string(path).unwrap();
        assert!(!text.contains("cfg!(test)"), "{} has a branch for tests", path.display());
        let mut lines = text.lines().map(str::trim_start);
        while let Some(line) = lines.next() {
            if line.starts_with("#[cfg(test)]") {
                let item = lines.by_ref().find(|line| !line.starts_with("#[")).unwrap_or_default();
                let item = item.trim_start_matches("pub(crate) ");
                assert!(item.starts_with("mod "), "{}: code for tests outside of a module: {item}", path.display());
            }
        }
    }
}

#[test]
fn files_are_small() {
    for File { path, .. } in Sources::read().files() {
        let lines = fs::read_to_string(path).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines: split it", path.display());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn chart_is_read_with_its_arrows() {
    let chart = Chart::parse(
        "1  b -> c, d -> e; f     words\n\
         0  a     words",
    );
    let module = |path: &str| path.split('/').map(String::from).collect::<Module>();
    for (from, to, allowed) in [
        ("b", "a/x", true),
        ("a", "b", false),
        ("b/x", "b/y", true),
        ("b", "e", true),
        ("e", "b", false),
        ("c", "d", false),
        ("f", "e", false),
    ] {
        assert_eq!(chart.allows(&module(from), &module(to)), allowed, "{from} -> {to}");
    }
}

#[test]
fn reader_of_imports_sees_every_form() {
    let sources = Sources::of(&[
        ("a", "pub mod deep; mod own; pub use deep::Thing; use crate::b; fn f() { b::c::run() } // crate::d"),
        ("a/deep", "pub struct Thing; mod tests { use super::*; use crate::{d::{self, E as F},}; }"),
        (
            "a/own",
            "use super::Thing; fn f() -> crate::d::X { let _ = \"crate::b\"; tracing::info!(\"{}\", crate::b::c::K) }",
        ),
        ("b", "pub mod c;"),
        ("b/c", "pub fn run() {} use super::super::a::Thing;"),
        ("d", ""),
    ]);
    let imports = |name: &str| {
        let file = sources.files().find(|file| file.module.join("/") == name).unwrap();
        sources.imports(file).into_keys().map(|module| module.join("/")).collect::<Vec<_>>()
    };
    // A name that is exported again counts where it is defined.
    assert_eq!(imports("a"), ["b", "b/c"]);
    assert_eq!(imports("a/deep"), ["d"]);
    assert_eq!(imports("a/own"), ["a/deep", "b/c", "d"]);
    assert_eq!(imports("b/c"), ["a/deep"]);
}
