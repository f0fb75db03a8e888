//! Settings: messages about wrong ones, where they come from, and that their documentation is true.

use std::{fs, process::Command};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{
        onnx,
        server::{Server, field, onnxd},
    },
};

/// Output of `onnxd config`; it must succeed.
fn printed(command: &mut Command) -> String {
    let output = ended(command);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    text(&output.stdout).to_owned()
}

fn config(arguments: &[&str]) -> Command {
    let mut command = onnxd();
    command.arg("config").args(arguments);
    command
}

/// Files with mistakes, and the message about each of them, in order.
#[rustfmt::skip]
const WRONG: &[(&[u8], &[&str])] = &[
    (b"http = \"off\"\nhtpp = \"off\"", &["2:1: unknown key 'htpp'; did you mean 'http'? known keys: http, grpc, "]),
    (b"poll-interval = \"1s\"", &["1:1: unknown key 'poll-interval'; did you mean 'poll_interval'?"]),
    (b"colour = 1", &["1:1: unknown key 'colour'; known keys: http, "]),
    (b"http = \"8000\"", &["1:8: invalid value for http: the string \"8000\": '8000' is not an address: give HOST:PORT"]),
    (b"http = 8000", &["1:8: http must be a string such as \"0.0.0.0:8000\", got 8000"]),
    (b"http = [\"off\"]", &["1:8: http must be a string such as \"0.0.0.0:8000\", got an array"]),
    (b"[http]\naddress = 1", &["1:1: http must be a string such as \"0.0.0.0:8000\", got a table"]),
    (b"state_dir = true", &["1:13: state_dir must be a string, got true"]),
    (b"poll_interval = \"often\"", &["1:17: invalid value for poll_interval: the string \"often\": expected a duration such as 500ms"]),
    (b"poll_interval = \"0s\"", &["1:17: invalid value for poll_interval: the string \"0s\": it must be longer than 0s"]),
    (b"drain_delay = \"99999999999999years\"", &["1:15: invalid value for drain_delay: "]),
    (b"device = \"cuda:x\"", &["1:10: invalid value for device: the string \"cuda:x\": expected one of \"auto\", \"cpu\", \"cuda\","]),
    (b"device = 0", &["1:10: device must be a string such as \"auto\", got 0"]),
    (b"access_log_sample = 2", &["1:21: invalid value for access_log_sample: 2: '2' is not a ratio: give a number from 0 to 1"]),
    (b"access_log_sample = \"all\"", &["1:21: access_log_sample must be a number from 0 to 1, got the string \"all\""]),
    (b"access_log_sample = nan", &["1:21: invalid value for access_log_sample: "]),
    (b"log_format = \"jsno\"", &["1:14: invalid value for log_format: the string \"jsno\": expected one of text, json; did you mean 'json'?"]),
    (b"log_level = \"loud,a=b\"", &["1:13: invalid value for log_level: the string \"loud,a=b\": "]),
    (b"http = ", &["1:8: not valid TOML: "]),
    (b"grpc = \"off\"\ngrpc = \"off\"", &["2:1: not valid TOML: duplicate key"]),
    (b"grpc = \"off\"\n# \xff", &["2: it is not UTF-8 text"]),
    // All at once.
    (b"grpc = 1\nx = 1\nhttp = \"9\"\n", &["1:8: grpc must be", "2:1: unknown key 'x'", "3:8: invalid value for http"]),
];

#[test]
fn config_file_problems_are_reported_with_their_place() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("onnxd.toml");
    let reported = |command: &mut Command| {
        let output = ended(command);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{output:?}");
        text(&output.stderr).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for (contents, says) in WRONG {
        fs::write(&file, contents).unwrap();
        // Both where it is only shown and where it is served with.
        for command in [&["config"][..], &["serve", "."]] {
            let lines = reported(onnxd().args(command).arg("--config").arg(&file));
            assert_eq!(lines.len(), says.len(), "{lines:#?}");
            for (line, part) in lines.iter().zip(*says) {
                let expected = format!("onnxd: {}:{part}", file.display());
                assert!(line.starts_with(&expected), "{line}\n{expected}");
            }
        }
    }
    for (path, why) in [(folder.path(), "can't be read: Is a directory"), ("/dev/zero".as_ref(), "larger than 1 MiB")] {
        let lines = reported(config(&["--config"]).arg(path));
        assert!(lines.len() == 1 && lines[0].contains(path.to_str().unwrap()) && lines[0].contains(why), "{lines:?}");
    }
    fs::write(&file, format!("x = {}", "[".repeat(100_000))).unwrap();
    assert!(reported(config(&["--config"]).arg(&file))[0].contains("not valid TOML"));
}

#[test]
fn wrong_variables_are_named_and_empty_ones_ignored() {
    let output = ended(config(&[]).env("ONNXD_GRPC", "9").env("ONNXD_LOG_FORMAT", "jsno").env("ONNXD_CONFIG", "/none"));
    let lines: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("onnxd: /none can't be read: ") || lines[2].starts_with("onnxd: /none can't be read: ")
    );
    for start in
        ["onnxd: ONNXD_GRPC: invalid value '9': '9' is not an", "onnxd: ONNXD_LOG_FORMAT: invalid value 'jsno': "]
    {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{lines:?}");
    }

    let defaults = printed(&mut config(&[]));
    let mut command = config(&[]);
    for variable in ["CONFIG", "HTTP", "STATE_DIR", "POLL_INTERVAL", "LOG_FORMAT", "LOG_LEVEL"] {
        command.env(format!("ONNXD_{variable}"), "");
    }
    assert_eq!(printed(&mut command), defaults);

    // Where an option is given, nobody asks the variable.
    assert!(printed(config(&["--grpc", "off"]).env("ONNXD_GRPC", "9")).contains("grpc = \"off\" "));
}

#[test]
fn unknown_variables_are_warned_of_with_the_nearest() {
    let output = ended(config(&[]).env("ONNXD_HTPP", "off").env("ONNXD_PORT_8000_TCP", "tcp://10.0.0.1:8000"));
    assert!(output.status.success(), "{output:?}");
    let expected =
        "onnxd: the environment variable ONNXD_HTPP is no setting and is ignored; did you mean ONNXD_HTTP?\n";
    assert_eq!(text(&output.stderr), expected);

    // A server logs them.
    let repository = TempDir::new().unwrap();
    let mut command = onnxd();
    command.env("ONNXD_MAX_RUNTIME", "1s");
    let server = Server::start_command(command, repository.path(), &[]);
    let line = server.wait_for_log(|line| line["variable"] == "ONNXD_MAX_RUNTIME");
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["hint"], "did you mean ONNXD_MAX_RUN_TIME?", "{line}");
}

#[test]
fn effective_settings_are_shown_with_their_origin() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("onnxd.toml");
    fs::write(&file, "# ours\nhttp = \"h:1\"\ngrpc = \"h:2\"\nmetrics = \"h:3\"\n").unwrap();
    let mut command = config(&["--metrics", "h:5", "--state-dir", "a \"quoted\" folder"]);
    let shown = printed(command.env("ONNXD_CONFIG", &file).env("ONNXD_GRPC", "h:4").env("ONNXD_METRICS", "h:6"));
    let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap();
    for (key, value, origin) in [
        ("http", "\"h:1\"", format!("{}:2", file.display())),
        ("grpc", "\"h:4\"", "ONNXD_GRPC".into()),
        ("metrics", "\"h:5\"", "--metrics".into()),
        ("admin", "\"127.0.0.1:8003\"", "default".into()),
        ("state_dir", "'a \"quoted\" folder'", "--state-dir".into()),
    ] {
        let line = line(key);
        assert!(line.starts_with(&format!("{key} = {value} ")) && line.ends_with(&format!("  # {origin}")), "{line}");
    }

    // It is TOML that says the same.
    let again = folder.path().join("again.toml");
    fs::write(&again, &shown).unwrap();
    let values =
        |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().trim_end().to_owned()).collect();
    let (before, after): (Vec<String>, Vec<String>) =
        (values(&shown), values(&printed(config(&["--config"]).arg(&again))));
    assert_eq!(before, after);
}

/// The documentation is complete and true: given back, it changes nothing.
#[test]
fn documented_defaults_are_the_defaults() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("onnxd.toml");
    let documented = printed(&mut config(&["--defaults"]));
    fs::write(&file, &documented).unwrap();
    let (given, defaults) = (printed(config(&["--config"]).arg(&file)), printed(&mut config(&[])));
    let mut keys = 0;
    for (given, default) in given.lines().zip(defaults.lines()) {
        let (key, _) = default.trim_start_matches("# ").split_once(" =").unwrap();
        let value = |line: &str| line.rsplit_once("  # ").unwrap().0.trim_end().to_owned();
        assert_eq!(value(given), value(default));
        if default.starts_with("# ") {
            assert!(documented.contains(&format!("\n# {key} = ")), "{key} is not in\n{documented}");
        } else {
            assert!(given.contains("onnxd.toml:"), "{key} is not in\n{documented}");
        }
        keys += 1;
    }
    assert!(keys >= 10 && given.lines().count() == keys);
    // The help says the same.
    let help = printed(onnxd().args(["serve", "--help"]));
    for line in defaults.lines().filter(|line| !line.starts_with('#')) {
        let value = line.split_once(" = ").unwrap().1.split("  #").next().unwrap().trim_end().trim_matches('"');
        // An option that is switched on by its name is off by default.
        assert!(value == "false" || help.contains(&format!("[default: {value}]")), "{value} is not in\n{help}");
    }
}

#[test]
fn documented_model_defaults_serve_the_model() {
    let repository = TempDir::new().unwrap();
    onnx::add(1.0).save(&repository.path().join("add/1/model.onnx"));
    fs::write(repository.path().join("add/config.toml"), printed(&mut config(&["--defaults", "--model"]))).unwrap();
    let server = Server::start(repository.path());
    assert_eq!(server.count_log(|line| line["level"] == "WARN" || line["level"] == "ERROR"), 0);
    // A pipe in its place is not waited for, and every problem is in one line.
    fs::remove_file(repository.path().join("add/config.toml")).unwrap();
    let pipe = repository.path().join("add/config.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reported = |part: &str| {
        server.wait_for_log(|line| field(line, "error").contains(part));
    };
    reported("add/config.toml can't be read: it is a pipe");
    fs::remove_file(&pipe).unwrap();
    fs::write(&pipe, "instances = 0\nmax_batch_sise = 1").unwrap();
    reported("add/config.toml:1:13: instances must be an integer from 1 to 1024, got 0; ");
    reported("add/config.toml:2:1: unknown key 'max_batch_sise'; did you mean 'max_batch_size'?");
}
