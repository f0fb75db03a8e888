//! `onnxd infer`: predictions from the shell, by a real server.

use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};
use tempfile::TempDir;

use crate::{
    cli::{ended, text},
    support::{onnx, python, server::Server, server::onnxd},
};

/// A server with a model of one input, of two, and of other datatypes, and a folder for files.
struct Setting {
    server: Server,
    files: TempDir,
    _repository: TempDir,
}

impl Setting {
    fn new() -> Self {
        let repository = TempDir::new().unwrap();
        let save = |name: &str, graph: onnx::Graph| graph.save(&repository.path().join(format!("{name}.onnx")));
        save("add", onnx::add(1.0));
        save("pair", onnx::pair());
        save("integers", onnx::identity(onnx::INT64, &["batch", "2"]));
        save("booleans", onnx::identity(onnx::BOOL, &["batch"]));
        save("cube", onnx::identity(onnx::FLOAT, &["batch", "2", "2"]));
        save("table", table());
        Setting { server: Server::start(repository.path()), files: TempDir::new().unwrap(), _repository: repository }
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.files.path().join(name), contents).unwrap();
    }

    /// The command, in the folder of files.
    fn command(&self, line: &str) -> Command {
        let mut command = onnxd();
        command.arg("infer").args(line.split_whitespace()).current_dir(self.files.path());
        command.env("ONNXD_URL", format!("http://{}", self.server.http));
        command
    }

    fn run(&self, line: &str, stdin: &str) -> Output {
        let mut command = self.command(line);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The elements of the outputs.
    fn answer(&self, line: &str, stdin: &str) -> String {
        let output = self.run(&format!("{line} --json"), stdin);
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        let parts = text(&output.stdout).split("\"shape\":").skip(1);
        parts.map(|part| part.split(['}']).next().unwrap().replace(",\"data\":", " ")).collect::<Vec<_>>().join("; ")
    }
}

/// An input that has a value in the model may be left out.
#[test]
fn optional_inputs_may_be_left_out() {
    let repository = TempDir::new().unwrap();
    let mut graph = onnx::add(1.0);
    graph.input.push(onnx::value("number", onnx::FLOAT, &["1"]));
    graph.save(&repository.path().join("add.onnx"));
    let server = Server::start(repository.path());
    let setting = Setting { server, files: TempDir::new().unwrap(), _repository: repository };
    setting.file("number.json", "[5]");
    setting.file("row.csv", "1,2");
    let left_out = "[1,2] [2.0,3.0]";
    for (line, stdin) in [("add", "[[1, 2]]"), ("add", "{\"x\": [[1, 2]]}"), ("add", "1,2"), ("add x=row.csv", "")] {
        assert_eq!(setting.answer(line, stdin), left_out, "{line} < {stdin}");
    }
    let given = "[1,2] [6.0,7.0]";
    assert_eq!(setting.answer("add", "{\"number\": [5], \"x\": [[1, 2]]}"), given);
    assert_eq!(setting.answer("add x=row.csv number=number.json", ""), given);
    let output = setting.run("add", "{\"number\": [5]}");
    let reported = text(&output.stderr);
    assert!(
        reported.contains("input 'x' is missing") && reported.contains("'number' (FP32 [1], optional)"),
        "{reported}"
    );
}

/// A model with an input for each column.
fn table() -> onnx::Graph {
    onnx::Graph {
        name: "table".into(),
        node: vec![onnx::node("Identity", &["colour"], &["c"]), onnx::node("Identity", &["length"], &["l"])],
        initializer: vec![],
        input: vec![onnx::value("colour", onnx::STRING, &["n", "1"]), onnx::value("length", onnx::FLOAT, &["n", "1"])],
        output: vec![onnx::value("c", onnx::STRING, &["n", "1"]), onnx::value("l", onnx::FLOAT, &["n", "1"])],
    }
}

#[test]
fn classes_are_named() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let repository = TempDir::new().unwrap();
    fs::copy(models.join("multiclass_string.onnx"), repository.path().join("iris.onnx")).unwrap();
    let setting =
        Setting { server: Server::start(repository.path()), files: TempDir::new().unwrap(), _repository: repository };
    let names =
        "output_label  output_probability[setosa]  output_probability[versicolor]  output_probability[virginica]";
    let whole = r#"{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1,4], "data": [5,3,2,1]}]}"#;
    for stdin in ["5,3,2,1", whole] {
        let output = setting.run("iris", stdin);
        assert_eq!(text(&output.stdout).lines().nth(2), Some(names), "{output:?}");
    }
}

/// A key goes to one version every time, and headers come as they were given.
#[test]
fn routing_keys_and_headers_are_sent() {
    let setting = Setting::new();
    setting.file("row.csv", "1,2");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let heard = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let length = connection.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    });
    let mut command = setting.command("add row.csv --routing-key user-7 --url");
    command.arg(&url).args(["--header", "X-Team: a: b", "--header", "authorization:Bearer t"]);
    assert_eq!(ended(&mut command).status.code(), Some(1));
    // Where nobody has come, nothing is waited for.
    drop(TcpStream::connect(&url));
    let heard = heard.join().unwrap();
    for line in ["onnxd-routing-key: user-7\r\n", "x-team: a: b\r\n", "authorization: Bearer t\r\n"] {
        assert!(heard.contains(line), "{heard}");
    }
    for (header, says) in [
        ("x", "expected NAME: VALUE"),
        ("a b: c", "expected NAME: VALUE"),
        ("Content-Type: text/plain", "the command sets 'content-type' itself"),
    ] {
        let output = ended(setting.command("add row.csv --header").arg(header));
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(says), "{header}: {output:?}");
    }

    // The key decides where there are weights.
    let root = setting._repository.path();
    fs::create_dir_all(root.join("split")).unwrap();
    onnx::add(1.0).save(&root.join("split/1.onnx"));
    onnx::add(2.0).save(&root.join("split/2.onnx"));
    fs::write(root.join("split/config.toml"), "[weights]\n1 = 50\n2 = 50\n").unwrap();
    let ready = |line: &Value| line["message"] == "ready" && line["model"] == "split";
    setting.server.wait_for_logs(2, ready);
    for key in ["a", "b", "c"] {
        let heading = || {
            text(&setting.run(&format!("split row.csv --routing-key {key}"), "").stdout)
                .lines()
                .next()
                .map(str::to_owned)
        };
        let first = heading().unwrap();
        assert!(first.ends_with("(sticky)"), "{first}");
        assert!((0..5).all(|_| heading().as_ref() == Some(&first)), "{key}");
    }
}

/// A file as `numpy.save` writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}

fn bytes<const N: usize>(elements: &[[u8; N]]) -> Vec<u8> {
    elements.concat()
}

#[test]
#[rustfmt::skip]
fn input_forms_give_the_same_answer() {
    let setting = Setting::new();
    setting.file("rows.json", "[[1, 2], [3, 4]]");
    setting.file("rows.csv", "1,2\n3,4\n");
    setting.file("header.csv", "\u{feff}first,second\r\n1,\"2\"\r\n3, 4.0\r\n");
    setting.file("rows", "1,2\n3,4\n");
    setting.file("f4.npy", npy("<f4", "(2, 2)", &bytes(&[1f32, 2., 3., 4.].map(f32::to_le_bytes))));
    setting.file("f8.npy", npy("<f8", "(2, 2)", &bytes(&[1f64, 2., 3., 4.].map(f64::to_le_bytes))));
    setting.file("f2.npy", npy("<f2", "(2, 2)", &[0x00, 0x3c, 0x00, 0x40, 0x00, 0x42, 0x00, 0x44]));
    setting.file("u1.npy", npy("|u1", "(2, 2)", &[1, 2, 3, 4]));
    for (line, stdin) in [
        ("add rows.json", ""), ("add rows.csv", ""), ("add header.csv", ""), ("add rows", ""), ("add f4.npy", ""),
        ("add f8.npy", ""), ("add f2.npy", ""), ("add u1.npy", ""), ("add x=rows.csv", ""), ("add -", "1,2\n3,4"),
        ("add", "[[1,2],[3,4]]"), ("add", "{\"x\": [[1,2],[3,4]]}"), ("add x=-", "1,2\n3,4"), ("add --version 1 rows", ""),
        ("add", "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [2,2], \"data\": [1,2,3,4]}]}"),
    ] {
        assert_eq!(setting.answer(line, stdin), "[2,2] [2.0,3.0,4.0,5.0]", "{line} < {stdin}");
    }
    let both = "[2,2] [2.0,4.0,6.0,8.0]; [2,2] [0.0,0.0,0.0,0.0]";
    assert_eq!(setting.answer("pair a=rows.csv b=f8.npy", ""), both);
    assert_eq!(setting.answer("pair", "{\"a\": [[1,2],[3,4]], \"b\": [[1,2],[3,4]]}"), both);
    // One row may come without the axis of the batch.
    assert_eq!(setting.answer("add", "[1, 2]"), "[1,2] [2.0,3.0]");
    assert_eq!(setting.answer("cube", "1,2,3,4\n5,6,7,8"), "[2,2,2] [1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0]");
    // Nothing is lost on the way.
    assert_eq!(setting.answer("integers", "9007199254740993,-9223372036854775808"), "[1,2] [9007199254740993,-9223372036854775808]");
    assert_eq!(setting.answer("integers", "1.0,2"), "[1,2] [1,2]");
    assert_eq!(setting.answer("booleans", "true\nFalse\n1\n"), "[3] [true,false,true]");
    assert_eq!(setting.answer("cube", "nan,inf,-inf,1e-40"), "[1,2,2] [NaN,Infinity,-Infinity,1e-40]");
    assert_eq!(setting.answer("cube", "[[NaN,\"Infinity\"],[0,0.1]]"), "[1,2,2] [NaN,Infinity,0.0,0.1]");
}

#[test]
fn answer_prints_as_table_or_protocol_json() {
    let setting = Setting::new();
    let output = setting.run("pair", "{\"a\": [[1,2],[30,4]], \"b\": [[1,1],[1,1]]}");
    let expected = "pair version 1 (default)\n\nsum[0]  sum[1]  difference[0]  difference[1]\n   2.0     3.0            0.0            1.0\n  31.0     5.0           29.0            3.0\n";
    assert_eq!((text(&output.stdout), text(&output.stderr)), (expected, ""));
    let output = setting.run(
        "add --json",
        "{\"id\": \"7\", \"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1,2], \"data\": [1,2]}]}",
    );
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = r#"{"id":"7","model_name":"add","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[2.0,3.0]}]}"#;
    assert_eq!(json, serde_json::from_str::<Value>(expected).unwrap());
    assert_eq!(text(&output.stdout), format!("{expected}\n"));

    // Versions have names.
    let mut alias = onnxd();
    alias.args(["alias", "set", "add", "canary", "1"]).env("ONNXD_SERVER", setting.server.admin.to_string());
    assert!(ended(&mut alias).status.success());
    for (line, heading) in [("add --version 1", "pinned"), ("add --version canary", "alias")] {
        let output = setting.run(line, "1,2");
        assert!(text(&output.stdout).starts_with(&format!("add version 1 ({heading})\n")), "{line}: {output:?}");
    }

    // A reader that has seen enough ends nothing in disorder.
    setting.file("many.csv", "1,2\n".repeat(200_000));
    let mut child = setting.command("add many.csv").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut beginning = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut beginning).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
#[rustfmt::skip]
fn mistakes_are_reported_in_one_line() {
    let setting = Setting::new();
    setting.file("empty", "");
    setting.file("binary", [0, 159, 146, 150]);
    setting.file("short.npy", npy("<f4", "(2, 2)", &[0; 4]));
    setting.file("huge.npy", npy("<f4", "(9999999999, 9999999999, 99)", &[0; 4]));
    setting.file("big.npy", npy(">f4", "(1, 2)", &[0; 8]));
    setting.file("object.npy", npy("|O", "(1, 2)", &[0; 8]));
    setting.file("cut.npy", &npy("<f4", "(1, 2)", &[0; 8])[..20]);
    setting.file("float.npy", npy("<f8", "(1, 2)", &bytes(&[0.5f64, 1.].map(f64::to_le_bytes))));
    setting.file("zip.npz", b"PK\x03\x04 and nothing else");
    for (line, stdin, says) in [
        ("add empty", "", "empty: it is empty"),
        ("add none.csv", "", "none.csv can't be read: No such file"),
        ("add .", "", ". can't be read: Is a directory"),
        ("add binary", "", "binary: it is neither NPY, NPZ nor text"),
        ("add short.npy", "", "short.npy: shape [2, 2] of <f4 needs 16 bytes, the file has 4"),
        ("add huge.npy", "", "huge.npy: shape [9999999999, 9999999999, 99] of <f4 needs far more bytes"),
        ("add big.npy", "", "big.npy: its type is >f4, big-endian"),
        ("add object.npy", "", "object.npy: its type is |O; supported are"),
        ("add cut.npy", "", "cut.npy: the NPY header is cut short"),
        ("add zip.npz", "", "zip.npz: the NPZ archive can't be read"),
        ("integers float.npy", "", "float.npy: input 'x': element 0: expected INT64, got 0.5"),
        ("add", "[[1, 2], [3]]", "stdin: input 'x': expected 2 elements as in the array before, got 1 at line 1 column 9"),
        ("add", "[[1, 2], 3]", "stdin: input 'x': expected values inside 2 arrays as the first is, got one inside 1 at line 1 column"),
        ("add", "[[1, [2]]]", "stdin: input 'x': expected values inside 2 arrays as the first is, got one inside 3 at line 1 column"),
        ("add", "[[1, null]]", "stdin: input 'x': expected a number, got null (a missing one is sent as NaN) at line 1 column 6"),
        ("add", "[[1, \"a\"]]", "stdin: input 'x': expected a number, got \"a\" at line 1 column 6"),
        ("add", "[[1, 2]", "stdin: not valid JSON: "),
        ("add", "[1, 2] 3", "stdin: not valid JSON: expected nothing more at line 1 column 8"),
        ("add", "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"FP32\", \"shape\": [1,2], \"data\": [1,2]}], \"outputs\": [{\"name\": \"y\", \"parameters\": {\"binary_data\": true}}]}", "leave binary_data out"),
        ("add", "1,2\n3\n", "stdin: line 2 has 1 columns, line 1 has 2"),
        ("add", "a,b\n1,x\n", "stdin: line 2, column 2 'b': expected FP32, got 'x'"),
        ("add", "1,2\r\n3,4\r\n5,x\r\n", "stdin: line 3, column 2: expected FP32, got 'x'"),
        ("add", "0x1,2\n3,4\n", "stdin: line 1, column 1: expected FP32, got '0x1'"),
        ("add", "\"1,000\",2\n", "stdin: line 1, column 1: expected FP32, got '1,000'"),
        ("add", "1;2\n", "stdin: line 1: expected rows of FP32, got a header alone, which begins with '1;2'"),
        ("add", "1,2,3\n", "stdin: input 'x' (FP32 [-1, 2]) takes 2 columns, got 3; column 3 is the first that is too many"),
        ("add", "a,b,id\n1,2,3\n", "takes 2 columns, got 3; column 3 ('id') is the first that is too many"),
        ("add", "1\n", "takes 2 columns, got 1"),
        ("pair", "1,2\n", "line 1 names no input; the model takes 'a'"),
        ("table", "colour,lenght\nred,1\n", "line 1 has no column for 'length', and column 'lenght' is no input (did you mean 'length'?); the model takes"),
        ("table", "colour\nred\n", "line 1 has no column for 'length'; the model takes"),
        ("table", "colour,length,id\nred,1,7\n", "line 1, column 3: the model has no input 'id'; it takes"),
        ("add", "1,\n", "stdin: line 1, column 2: expected FP32, got nothing; what is missing is written nan"),
        ("add", "{\"X1\": [1,2]}", "stdin: the model has no input 'X1'; it takes 'x' (FP32 [-1, 2])"),
        ("pair", "[[1, 2]]", "stdin: the model takes 'a' (FP32 [-1, 2]), 'b' (FP32 [-1, 2]): give JSON"),
        ("pair", "{\"a\": [1, 2]}", "input 'b' is missing; the model takes 'a'"),
        ("pair a=- a=empty", "1,2", "empty: it is empty"),
        ("pair a=float.npy a=float.npy", "", "input 'a' is given twice"),
        ("pair a=float.npy float.npy", "", "of several files each needs the input that it is for: NAME=FILE"),
        // The server's own words.
        ("add", "[[1, 2, 3]]", "input 'x' of model 'add': expected shape [-1,2], got [1,3] (HTTP 400)"),
        ("none", "[1]", "'none'"),
        ("add --version 7", "[[1, 2]]", "no version 7; its versions are: 1 (HTTP 404)"),
        ("add --version none", "[[1, 2]]", "none"),
        ("a/../b?x#y", "[1]", "'a/../b?x#y'"),
    ] {
        let output = setting.run(line, stdin);
        let reported = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{line} < {stdin}: {reported}");
        assert!(reported.starts_with("onnxd: ") && reported.lines().count() == 1 && reported.contains(says), "{line} < {stdin}: {reported}");
    }
    for (line, says) in [("", "<MODEL>"), ("add --version 0", "a version is an integer > 0, or an alias"), ("add --version a/b", "an alias"), ("add --url https://h", "https is not supported"), ("add --url ftp://h", "expected http://")] {
        let output = ended(&mut setting.command(line));
        assert!(output.status.code() == Some(2) && text(&output.stderr).contains(says), "{line}: {output:?}");
    }
}

#[test]
fn unreachable_and_foreign_servers_are_reported() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.csv");
    fs::write(&file, "1,2").unwrap();
    let reported = |url: &str, more: &[&str]| {
        let output = ended(onnxd().args(["infer", "add", "--url", url]).args(more).arg(Path::new(&file)));
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        text(&output.stderr).to_owned()
    };
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = reported(&address, &[]);
    assert!(refused.contains("Connection refused") && refused.contains("onnxd serve DIR"), "{refused}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Accepted by the kernel, and never answered.
    assert!(reported(&address, &["--timeout", "100ms"]).contains("no answer within 100ms"));
    thread::spawn(move || {
        let answers = [
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "nonsense\r\n\r\n",
        ];
        // The first connection is the one above.
        let connections = listener.incoming().map_while(Result::ok).skip(1);
        for (mut connection, answer) in connections.zip(answers) {
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(answer.as_bytes());
        }
    });
    assert!(reported(&address, &[]).contains("/v2/models/add answered HTTP 502 Bad Gateway: bad"));
    assert!(reported(&address, &[]).contains("the metadata of model 'add' can't be understood"));
    assert!(reported(&address, &[]).starts_with(&format!("onnxd: http://{address}/: ")));
}

/// Files that NumPy really writes.
#[test]
fn files_of_numpy_are_read() {
    const WRITE: &str = "
import numpy, sys
a = numpy.array([[1, 2], [3, 4]])
folder = sys.argv[1] + '/'
for name in ['float16', 'float32', 'float64', 'int8', 'int64', 'uint16', 'bool']:
    numpy.save(folder + name + '.npy', a.astype(name))
numpy.savez(folder + 'pair.npz', a=a, b=a)
numpy.savez_compressed(folder + 'one.npz', a)
numpy.save(folder + 'fortran.npy', numpy.asfortranarray(a))
";
    let setting = Setting::new();
    let script = WRITE.replace("sys.argv[1]", &format!("{:?}", setting.files.path()));
    if python::run_text("files_of_numpy_are_read", &script).is_none() {
        return;
    }
    for name in ["float16", "float32", "float64", "int8", "int64", "uint16"] {
        assert_eq!(setting.answer(&format!("add {name}.npy"), ""), "[2,2] [2.0,3.0,4.0,5.0]", "{name}");
    }
    assert_eq!(setting.answer("add one.npz", ""), "[2,2] [2.0,3.0,4.0,5.0]");
    assert_eq!(setting.answer("pair pair.npz", ""), "[2,2] [2.0,4.0,6.0,8.0]; [2,2] [0.0,0.0,0.0,0.0]");
    assert!(text(&setting.run("add fortran.npy", "").stderr).contains("numpy.ascontiguousarray"));
}
