//! The folder that is served: its layouts, what can be wrong in it, and its changes while it is served.

use serde_json::{Value, json};
use std::{fs, path::Path};
use tempfile::TempDir;

use crate::support::{
    client::{get, post, reasons},
    onnx,
    server::{Server, eventually, field},
};

/// A file with its folders.
fn write(path: &Path, contents: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

/// Number that a model adds, and the version that answered; else the error.
async fn added(server: &Server, model: &str) -> Result<(f64, u64), String> {
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0, 0] });
    let request = json!({ "inputs": [input] }).to_string();
    let answer = post(server.http, &format!("/v2/models/{model}/infer"), request).await;
    if answer.status != 200 {
        return Err(answer.error());
    }
    let json = answer.json();
    let version = json["model_version"].as_str().unwrap().parse().unwrap();
    Ok((json["outputs"][0]["data"][0].as_f64().unwrap(), version))
}

/// The versions that are ready, and which loading of the files the one that answers is.
async fn versions(server: &Server, model: &str) -> (Value, u64) {
    let metadata = get(server.http, &format!("/v2/models/{model}")).await.json();
    let generation = metadata["properties"]["generation"].as_str();
    (metadata["versions"].clone(), generation.map_or(0, |text| text.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_layouts_are_all_served() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("folders/1/model.onnx"));
    onnx::add(20.0).save(&root.join("folders/20/model.onnx"));
    onnx::add(3.0).save(&root.join("files/3.onnx"));
    onnx::add(4.0).save(&root.join("files/4.onnx"));
    onnx::add(5.0).save(&root.join("alone.onnx"));
    onnx::add(6.0).save(&root.join("padded/006/model.onnx"));
    // A file that is no model, or hidden, is nobody's business.
    onnx::add(9.0).save(&root.join(".hidden/1/model.onnx"));
    onnx::add(9.0).save(&root.join("folders/.21/model.onnx"));
    onnx::add(9.0).save(&root.join("folders/latest/model.onnx"));
    write(&root.join("README.md"), "# Models");
    write(&root.join("folders/labels.txt"), "cat\ndog");
    write(&root.join("folders/20/labels.txt"), "cat\ndog");
    fs::create_dir(root.join("empty")).unwrap();
    let server = Server::start(root);

    for (model, expected, ready) in [
        ("folders", (20.0, 20), json!(["1", "20"])),
        ("files", (4.0, 4), json!(["3", "4"])),
        ("alone", (5.0, 1), json!(["1"])),
        ("padded", (6.0, 6), json!(["6"])),
    ] {
        assert_eq!(added(&server, model).await, Ok(expected));
        assert_eq!(versions(&server, model).await.0, ready);
    }
    for model in [".hidden", "empty", "README", "README.md"] {
        assert!(added(&server, model).await.unwrap_err().contains("unknown model"), "{model}");
    }
}

/// A model with something wrong does not keep the others from being served, and says what it is.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_models_report_the_cause_everywhere() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    onnx::add(1.0).save(&root.join("good/1/model.onnx"));
    let mut wrong = vec![];
    for (index, (config, says)) in [
        ("max_batch_sise = 8", &["max_batch_sise", "max_batch_size"][..]),
        ("max_batch_size = 0", &["max_batch_size", "from 1", "got 0"]),
        ("max_batch_size = -1", &["max_batch_size", "-1"]),
        ("max_batch_size = \"many\"", &["max_batch_size", "many"]),
        ("max_queue_delay = \"fast\"", &["max_queue_delay", "a duration", "\"fast\""]),
        ("max_queue_delay = 5", &["max_queue_delay", "5"]),
        ("batching = \"maybe\"", &["batching", "maybe", "auto", "on", "off"]),
        ("instances = 0", &["instances", "from 1 to 1024", "got 0"]),
        ("aliases = 1", &["aliases"]),
        ("[aliases]\nstable = 0", &["'stable'", "at least 1"]),
        ("[aliases]\nstable = \"one\"", &["stable", "one"]),
        ("instances 2", &["config.toml:1:11"]),
    ]
    .into_iter()
    .enumerate()
    {
        let model = format!("config{index}");
        onnx::add(1.0).save(&root.join(&model).join("1/model.onnx"));
        write(&root.join(&model).join("config.toml"), config);
        wrong.push((model, [says, &["config.toml"]].concat()));
    }
    let mut add = |model: &str, says: &[&'static str]| wrong.push((model.to_string(), says.to_vec()));
    write(&root.join("garbage/1/model.onnx"), "not a model");
    add("garbage", &["version 1", "garbage/1/model.onnx", "text", "expected an ONNX model"]);
    write(&root.join("nothing.onnx"), "");
    add("nothing", &["version 1", "nothing.onnx"]);
    fs::create_dir_all(root.join("missing/2")).unwrap();
    add("missing", &["version 2", "missing/2/model.onnx", "no such file"]);
    write(&root.join("none/config.toml"), "max_batch_size = 2");
    add("none", &["holds none"]);
    onnx::sequence().save(&root.join("sequence.onnx"));
    add("sequence", &["version 1", "output 'y'", "only tensors", "export the model"]);
    onnx::add(1.0).save(&root.join("zero/0/model.onnx"));
    add("zero", &["zero/0/model.onnx", "positive integer", "'0'"]);
    onnx::add(1.0).save(&root.join("huge/99999999999999999999/model.onnx"));
    add("huge", &["positive integer", "'99999999999999999999'"]);
    onnx::add(1.0).save(&root.join("both.onnx"));
    onnx::add(1.0).save(&root.join("both/1/model.onnx"));
    add("both", &["both.onnx", "folder both"]);
    onnx::add(1.0).save(&root.join("twice/7/model.onnx"));
    onnx::add(1.0).save(&root.join("twice/07.onnx"));
    add("twice", &["version 7", "twice", "twice/07.onnx", "twice/7/model.onnx"]);
    // Of a model with a good version only the bad one is missing.
    onnx::add(1.0).save(&root.join("half/1/model.onnx"));
    write(&root.join("half/2/model.onnx"), "not a model");
    let server = Server::start(root);

    let mut complaints = Vec::new();
    for (model, says) in &wrong {
        let metadata = get(server.http, &format!("/v2/models/{model}")).await;
        let infer = added(&server, model).await;
        let public = metadata.error();
        let said = if *model == "none" { public.clone() } else { reasons(&server, model).await };
        let unsaid = says.iter().any(|part| !said.contains(part)) || !said.contains(model);
        let shown = public.contains(root.to_str().unwrap()) || !public.contains(model);
        if metadata.status != 503 || unsaid || shown || infer.as_ref() != Err(&public) {
            complaints.push(format!(
                "{model}: expected {says:?}, got {} {said:?}, {public:?} and {infer:?}",
                metadata.status
            ));
        }
        let logged = server.count_log(|line| {
            line["level"] == "ERROR"
                && line["model"] == **model
                && says.iter().skip(1).all(|part| field(line, "error").contains(part))
        });
        if logged != 1 && model != "none" {
            complaints.push(format!("{model}: {logged} log lines tell it"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(added(&server, "good").await, Ok((1.0, 1)));
    assert_eq!(added(&server, "half").await, Ok((1.0, 1)));
    let answer = get(server.http, "/v2/models/half/versions/2").await;
    assert!(answer.status == 503 && !answer.error().contains("model.onnx"), "{answer:?}");
    assert!(reasons(&server, "half").await.contains("half/2/model.onnx"));
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_changes_are_followed() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let server = Server::start(root);
    let becomes = async |model: &str, expected: Result<(f64, u64), &str>| {
        eventually(&format!("{model} answers {expected:?}"), async || match (added(&server, model).await, expected) {
            (Ok(answer), Ok(expected)) => answer == expected,
            (Err(said), Err(says)) => said.contains(says),
            _ => false,
        })
        .await;
    };

    // A model comes, and a version of it; the highest answers.
    onnx::add(1.0).save(&root.join("model/1/model.onnx"));
    becomes("model", Ok((1.0, 1))).await;
    onnx::add(2.0).save(&root.join("model/2/model.onnx"));
    becomes("model", Ok((2.0, 2))).await;

    // Files change: that version is reloaded, the other is left alone.
    let (_, before) = versions(&server, "model").await;
    onnx::add(2.5).save(&root.join("model/2/model.onnx"));
    becomes("model", Ok((2.5, 2))).await;
    let (ready, after) = versions(&server, "model").await;
    assert_eq!(ready, json!(["1", "2"]));
    assert!(after > before);
    let loads = |version: u64| move |line: &Value| line["message"] == "ready" && line["version"] == version;
    server.wait_for_logs(2, loads(2));
    server.wait_for_logs(1, loads(1));

    // A version that can't be loaded takes nothing away.
    write(&root.join("model/2/model.onnx"), "not a model");
    server.wait_for_log(|line| line["model"] == "model" && line["is_serving"] == true);
    assert_eq!(added(&server, "model").await, Ok((2.5, 2)));
    write(&root.join("model/config.toml"), "max_batch_size = 0");
    let rejected = |part: &'static str| {
        move |line: &Value| {
            field(line, "message").ends_with("its loaded versions keep serving") && field(line, "error").contains(part)
        }
    };
    server.wait_for_log(rejected("got 0"));
    assert_eq!(added(&server, "model").await, Ok((2.5, 2)));

    // Mended, with other settings: everything is reloaded with them.
    onnx::add(2.0).save(&root.join("model/2/model.onnx"));
    write(&root.join("model/config.toml"), "max_batch_size = 5");
    becomes("model", Ok((2.0, 2))).await;
    eventually("version 1 has the settings too", async || {
        let metadata = get(server.http, "/v2/models/model/versions/1").await.json();
        metadata["properties"]["batching"] == "on: up to 5 rows"
    })
    .await;

    // Versions go, and with the last the model. A folder that goes as a whole while its model serves takes nothing away: that
    // is more often a mistake.
    fs::remove_dir_all(root.join("model/2")).unwrap();
    becomes("model", Ok((1.0, 1))).await;
    fs::remove_file(root.join("model/config.toml")).unwrap();
    fs::remove_dir_all(root.join("model/1")).unwrap();
    becomes("model", Err("unknown model")).await;
    onnx::add(1.0).save(&root.join("model/1/model.onnx"));
    becomes("model", Ok((1.0, 1))).await;
    fs::remove_dir_all(root.join("model")).unwrap();
    server.wait_for_log(rejected("the repository does not hold it any more"));
    assert_eq!(added(&server, "model").await, Ok((1.0, 1)));
    onnx::add(3.0).save(&root.join("model.onnx"));
    becomes("model", Ok((3.0, 1))).await;

    // A repository that can't be read for a while is no wish to unload everything.
    let aside = folder.path().with_extension("aside");
    fs::rename(root, &aside).unwrap();
    server.wait_for_log(|line| line["message"] == "model repository unreadable, loaded versions keep serving");
    assert_eq!(added(&server, "model").await, Ok((3.0, 1)));
    fs::rename(&aside, root).unwrap();
    onnx::add(4.0).save(&root.join("other.onnx"));
    becomes("other", Ok((4.0, 1))).await;
    assert_eq!(added(&server, "model").await, Ok((3.0, 1)));
}

/// Releases are often links that are turned: the target's change is the version's.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed() {
    let (folder, releases) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    for number in [1, 2] {
        onnx::add(number as f32).save(&releases.path().join(format!("{number}/model.onnx")));
    }
    let link = folder.path().join("model/1");
    fs::create_dir(folder.path().join("model")).unwrap();
    std::os::unix::fs::symlink(releases.path().join("1"), &link).unwrap();
    let server = Server::start_with(folder.path(), &["--allow-links-to", releases.path().to_str().unwrap()]);
    assert_eq!(added(&server, "model").await, Ok((1.0, 1)));
    let turned = folder.path().join("model/.turned");
    std::os::unix::fs::symlink(releases.path().join("2"), &turned).unwrap();
    fs::rename(turned, link).unwrap();
    eventually("the other release answers", async || added(&server, "model").await == Ok((2.0, 1))).await;
}

/// A link that leads nowhere, since what it leads to is on a disk that is gone for a while, is no wish to unload.
#[tokio::test(flavor = "multi_thread")]
async fn dangling_links_unload_nothing() {
    let (folder, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mounted = disk.path().join("mounted");
    onnx::add(1.0).save(&mounted.join("model/1/model.onnx"));
    let link = |to: &str, from: &str| {
        let from = folder.path().join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(mounted.join(to), from).unwrap();
    };
    link("model", "folder");
    link("model/1", "version/1");
    link("model/1/model.onnx", "file.onnx");
    // Beside one that stays, which is not loaded again.
    onnx::add(1.0).save(&folder.path().join("stays/1/model.onnx"));
    let server = Server::start_with(folder.path(), &["--allow-links-to", mounted.to_str().unwrap()]);
    fs::rename(&mounted, disk.path().join("gone")).unwrap();
    for model in ["folder", "version", "file"] {
        server.wait_for_log(|line| line["level"] == "ERROR" && line["model"] == model);
        assert_eq!(added(&server, model).await, Ok((1.0, 1)));
    }
    fs::rename(disk.path().join("gone"), &mounted).unwrap();
    fs::remove_file(folder.path().join("folder")).unwrap();
    server.wait_for_log(|line| line["model"] == "folder" && field(line, "error").contains("does not hold it any more"));
    for model in ["folder", "version", "file"] {
        assert_eq!(added(&server, model).await, Ok((1.0, 1)));
    }
    // It is loaded once.
    server.wait_for_logs(1, |line| line["model"] == "stays" && line["message"] == "ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn stable_alias_decides_until_it_changes() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    let config = root.join("model/config.toml");
    onnx::add(1.0).save(&root.join("model/1/model.onnx"));
    write(&config, "[aliases]\nstable = 1");
    let server = Server::start(root);
    assert_eq!(added(&server, "model").await, Ok((1.0, 1)));

    // A new version takes nothing over, but can be asked for.
    onnx::add(2.0).save(&root.join("model/2/model.onnx"));
    eventually("version 2 is ready", async || {
        get(server.http, "/v2/models/model/versions/2/ready").await.status == 200
    })
    .await;
    assert_eq!(added(&server, "model").await, Ok((1.0, 1)));
    assert_eq!(versions(&server, "model").await.0, json!(["1", "2"]));

    // Turned over, without a load.
    write(&config, "[aliases]\nstable = 2");
    eventually("version 2 is stable", async || added(&server, "model").await == Ok((2.0, 2))).await;
    server.wait_for_logs(2, |line| line["message"] == "ready" && line["model"] == "model");

    // Where it points nowhere, no other version steps in.
    write(&config, "[aliases]\nstable = 3");
    eventually("nothing is stable", async || added(&server, "model").await.is_err()).await;
    let said = added(&server, "model").await.unwrap_err();
    assert!(said.contains("no version 3 (its stable version)") && said.contains("versions are: 1, 2"), "{said}");
    let answer = get(server.http, "/v2/models/model/ready").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["ready"]), (503, &json!(false)));
    assert_eq!(get(server.http, "/v2/models/model/versions/1/ready").await.status, 200);

    // Without it, the highest answers again.
    fs::remove_file(&config).unwrap();
    eventually("the highest answers", async || added(&server, "model").await == Ok((2.0, 2))).await;
}

/// Where a disk is unmounted, an empty folder of another disk is left.
#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_of_another_disk_unloads_nothing() {
    let (disk, elsewhere) = (TempDir::new().unwrap(), TempDir::new_in("/dev/shm"));
    let device = |path: &Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(path).unwrap());
    let Some(other_disk) = elsewhere.ok().filter(|other| device(other.path()) != device(disk.path())) else {
        eprintln!("SKIPPED empty_folder_of_another_disk_unloads_nothing: /dev/shm is no other disk");
        return;
    };
    onnx::add(1.0).save(&disk.path().join("models/add/1/model.onnx"));
    let link = disk.path().join("mounted");
    std::os::unix::fs::symlink(disk.path().join("models"), &link).unwrap();
    let server = Server::start(&link);

    let turned = disk.path().join("turned");
    std::os::unix::fs::symlink(other_disk.path(), &turned).unwrap();
    fs::rename(&turned, &link).unwrap();
    server.wait_for_log(|line| field(line, "error").contains("was it unmounted?"));
    assert_eq!(added(&server, "add").await.unwrap().0, 1.0);

    // A disk that comes with models is followed, whichever it is.
    onnx::add(5.0).save(&other_disk.path().join("add/1/model.onnx"));
    eventually("the other disk serves", async || added(&server, "add").await.unwrap().0 == 5.0).await;
}

/// A name that no request can contain is reported, and not passed over.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_utf_8_are_reported() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};
    let folder = TempDir::new().unwrap();
    let name = OsStr::from_bytes(b"caf\xe9");
    onnx::add(1.0).save(&folder.path().join(name).join("1/model.onnx"));
    onnx::add(1.0).save(&folder.path().join(OsStr::from_bytes(b"\xffx.onnx")));
    // No model.
    fs::create_dir(folder.path().join(OsStr::from_bytes(b"\xfe"))).unwrap();
    onnx::add(1.0).save(&folder.path().join("good.onnx"));
    let server = Server::start(folder.path());
    assert_eq!(added(&server, "good").await, Ok((1.0, 1)));
    for name in [r"caf\xe9", r"\xffx.onnx"] {
        server.wait_for_log(|line| {
            line["level"] == "ERROR" && line["model"] == name && field(line, "error").contains("is no UTF-8")
        });
        assert!(reasons(&server, name).await.contains("is no UTF-8"), "{name}");
    }
    let models = get(server.admin, "/admin/v1/models").await.json();
    assert_eq!(models["models"].as_array().unwrap().len(), 3, "{models}");
    let output = Command::new(env!("CARGO_BIN_EXE_onnxd")).arg("check").arg(folder.path()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && printed.contains(r"caf\xe9"), "{printed}");
}
