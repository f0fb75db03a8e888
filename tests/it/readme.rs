//! The examples of README.md and of the guides in docs/ print what the pages say.

use std::{path::Path, process::Command};

use crate::support::{
    python,
    server::{Server, onnxd},
};

const README: &str = include_str!("../../README.md");
const REQUESTS: &str = include_str!("../../docs/requests.md");
const MODELS: &str = include_str!("../../docs/models.md");
const CANARY: &str = include_str!("../../docs/canary.md");
const ADMIN: &str = include_str!("../../docs/admin.md");

/// The fenced blocks of a page, in order, with their languages.
fn blocks(page: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut parts = page.split("\n```");
    let mut blocks = Vec::new();
    parts.next();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        blocks.push(block.split_once('\n').unwrap());
    }
    blocks
}

/// The examples of a page in `language` that begin with `beginning`, each with the block behind it, which is what it prints.
fn examples(page: &'static str, language: &str, beginning: &str) -> Vec<(&'static str, &'static str)> {
    let blocks = blocks(page);
    let pairs = blocks.iter().zip(&blocks[1..]);
    let fitting = pairs.filter(|((found, text), _)| *found == language && text.starts_with(beginning));
    fitting.map(|((_, text), (_, prints))| (*text, *prints)).collect()
}

fn sample_models() -> Server {
    Server::start(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models"))
}

#[test]
fn curl_examples_print_the_documented_output() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("ONNXD_TEST_REQUIRE").is_none(), "curl is missing");
        eprintln!("SKIPPED curl_examples_print_the_documented_output: there is no curl");
        return;
    }
    let server = sample_models();
    let found = [(README, 1), (REQUESTS, 2), (ADMIN, 1)].map(|(page, count)| {
        let found = examples(page, "sh", "curl");
        assert_eq!(found.len(), count, "the examples were not found");
        found
    });
    for (command, prints) in found.into_iter().flatten() {
        let command = command.replace("localhost:8000", &server.http.to_string());
        let command = command.replace("localhost:8003", &server.admin.to_string());
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(without_in_place(&printed), without_in_place(prints), "{command}");
    }
}

/// A body without the text of the property `in_place`, which depends on how fast the machine is.
fn without_in_place(body: &str) -> String {
    let Some((before, rest)) = body.split_once("\"in_place\":\"") else { return body.to_owned() };
    format!("{before}{}", rest.split_once('"').map_or("", |(_, behind)| behind))
}

#[test]
fn shell_example_prints_the_documented_output() {
    let examples = examples(REQUESTS, "sh", "printf");
    assert_eq!(examples.len(), 1, "the example was not found");
    let server = sample_models();
    for (command, prints) in examples {
        let command = command.replace("onnxd infer", &format!("{} infer", env!("CARGO_BIN_EXE_onnxd")));
        let url = ("ONNXD_URL", server.http.to_string());
        let output = Command::new("sh").args(["-c", &command]).envs([url]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), prints, "{command}");
    }
}

#[test]
fn python_example_prints_the_documented_output() {
    let examples = examples(REQUESTS, "python", "import numpy");
    assert_eq!(examples.len(), 1, "the example was not found");
    let server = sample_models();
    for (script, prints) in examples {
        let script = script.replace("localhost:8001", &server.grpc.to_string());
        let Some(printed) = python::run_text("python_example_prints_the_documented_output", &script) else { return };
        assert_eq!(printed.trim_end(), prints);
    }
}

#[test]
fn check_example_prints_the_documented_output() {
    let examples = examples(MODELS, "sh", "onnxd check");
    assert_eq!(examples.len(), 1, "the example was not found");
    // The time of a row is another one every time, and the machine's memory decides what a run may hold.
    let without_figures = |text: &str| -> Vec<String> {
        let line = |line: &str| match line {
            _ if line.ends_with(" ms for a row") => "  probe".into(),
            _ if line.starts_with("  memory      a run may hold ") => "  memory".into(),
            _ => line.to_owned(),
        };
        text.trim_end().lines().map(line).collect()
    };
    for (command, prints) in examples {
        let mut check = onnxd();
        check.current_dir(env!("CARGO_MANIFEST_DIR")).args(command.split_whitespace().skip(1));
        let output = check.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(without_figures(&printed), without_figures(prints), "{command}");
    }
}

#[test]
fn readme_canary_prints_the_documented_output() {
    assert_eq!(walk(README), 3);
}

#[test]
fn canary_guide_prints_the_documented_output() {
    assert_eq!(walk(CANARY), 5);
}

/// Runs the steps of a canary as they are typed, from the load of version 3 on. Returns their number.
fn walk(page: &'static str) -> usize {
    let blocks = blocks(page);
    let is_first = |block: &(&str, &str)| *block == ("sh", "onnxd load purchase 3");
    let first = blocks.iter().position(is_first).expect("the walk was not found");
    let steps = blocks[first..].chunks(2).take_while(|pair| matches!(pair, [("sh", _), ("text", _)]));
    let server = sample_models();
    let folder = Path::new(env!("CARGO_BIN_EXE_onnxd")).parent().unwrap().display();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
    let url = format!("http://{}", server.http);
    let mut number = 0;
    for step in steps {
        let [(_, command), (_, prints)] = step else { panic!("a command without what it prints") };
        let environment = [
            ("PATH", &path),
            ("ONNXD_SERVER", &server.admin.to_string()),
            ("ONNXD_URL", &url),
            ("USER", &"ann".into()),
        ];
        let output = Command::new("sh").args(["-ec", command]).envs(environment).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(without_circumstances(&printed), without_circumstances(prints), "{command}\n{printed}");
        number += 1;
    }
    number
}

/// The words of each line. Times, ages, the name of the machine and the memory of runs are left out, since they differ.
fn without_circumstances(text: &str) -> Vec<Vec<&str>> {
    let plain = |word| match word {
        _ if str::starts_with(word, "20") && word.ends_with('Z') => "TIME",
        _ if word.starts_with("ann@") => "ACTOR",
        _ if word.strip_suffix(['s', 'm']).is_some_and(|age| age.parse::<u64>().is_ok()) => "AGE",
        _ => word,
    };
    let has_runs = text.lines().next().is_some_and(|heading| heading.ends_with(" RUNS"));
    let lines = text.trim_end().lines().map(|line| {
        let mut words: Vec<&str> = line.split_whitespace().map(plain).collect();
        if has_runs && words.contains(&"READY") {
            // A number and its unit.
            words.truncate(words.len() - 2);
        }
        words
    });
    lines.collect()
}
