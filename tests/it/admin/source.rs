//! Source of a model's traffic: shown, warned of where config.toml does not count, and given back to it.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{answering, change, commands::printed, configure, edit, model, post, repository};
use crate::support::server::{Server, field};

/// Warnings of edits that do not count so far.
fn warnings(server: &Server) -> Vec<Value> {
    let is_about_edits = |line: &Value| line["level"] == "WARN" && field(line, "hint").contains("traffic reset");
    server.log().into_iter().filter(is_about_edits).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn shadowed_config_edit_is_warned_of() {
    let (repository, state) = (repository(), TempDir::new().unwrap());
    let root = repository.path();
    let start = || Server::start_with(root, &["--state-dir", state.path().to_str().unwrap()]);
    configure(root, "[weights]\n1 = 100");
    let mut server = start();
    edit(&server, root, "[weights]\n1 = 90\n2 = 10").await;
    assert_eq!(model(&server).await["versions"][1]["share"], 0.1, "config.toml decides");
    change(&server, "/models/add/weights", r#"{"weights": {"2": 95, "3": 5}}"#).await;
    assert_eq!(warnings(&server), Vec::<Value>::new());
    // Settings of another kind count as before, and so does what is said already.
    edit(&server, root, "max_batch_size = 8\n[weights]\n1 = 90\n2 = 10").await;
    edit(&server, root, "[weights]\n2 = 95\n3 = 5").await;
    assert_eq!(warnings(&server), Vec::<Value>::new());
    edit(&server, root, "[weights]\n3 = 100\n[aliases]\nstable = 3").await;
    let warned = warnings(&server);
    assert_eq!(warned.len(), 1, "{warned:?}");
    for (name, part) in [
        ("keys", "`weights` and `aliases`"),
        ("source", "admin revision 1"),
        ("traffic", "2=95 3=5"),
        ("configured", "3=100 stable=3"),
        ("hint", "`onnxd traffic reset add`"),
    ] {
        assert!(field(&warned[0], name).contains(part), "{name}: {part}: {warned:?}");
    }
    let is_about_add = |line: &Value| line["model"] == "add" && line["message"] == warned[0]["message"];
    assert_eq!(server.count_log(is_about_add), 1);

    // An edit while no server ran is found at the start.
    server.signal("KILL");
    configure(root, "[aliases]\ncanary = 1");
    server = start();
    let warned = warnings(&server);
    assert!(warned.len() == 1 && warned[0]["source"] == "admin revision 1", "{warned:?}");
    assert_eq!(model(&server).await["shadowed"], json!({"weights": {}, "aliases": {"canary": 1}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn source_is_shown_and_reset_gives_traffic_back() {
    let repository = repository();
    let root = repository.path();
    let server = Server::start(root);
    let source = async || model(&server).await["source"].clone();
    assert_eq!(source().await, "default");
    // Traffic that was never taken can be given back as well.
    change(&server, "/models/add/traffic/reset", "").await;
    edit(&server, root, "[weights]\n1 = 100").await;
    assert_eq!(source().await, "config.toml");
    let table = printed(&server, "traffic show add");
    assert!(table.lines().next().unwrap().ends_with("ALIASES  SOURCE") && table.contains("config.toml\n"), "{table}");
    change(&server, "/models/add/weights", r#"{"weights": {"2": 1}}"#).await;
    change(&server, "/models/add/versions/3/unload", "").await;
    assert_eq!(source().await, "admin revision 2", "what is loaded says nothing of traffic");
    assert_eq!(model(&server).await["shadowed"], json!({"weights": {"1": 100.0}, "aliases": {}}));
    let table = printed(&server, "traffic show add");
    assert!(table.contains("admin revision 2\n"), "{table}");
    assert!(table.contains(
        "\nadd: config.toml asks for 1=100, which does not count since admin revision 2; `onnxd traffic reset add`"
    ));
    assert!(printed(&server, "models add").contains("  admin revision 2  "));

    let stale = post(&server, "/models/add/traffic/reset", r#"{"expected_revision": 1}"#).await;
    assert_eq!(stale.status, 412, "{stale:?}");
    let reset = printed(&server, "traffic reset add --reason done");
    assert!(reset.starts_with("add revision 4: reset traffic to the configuration\n"), "{reset}");
    assert_eq!((answering(&server).await.as_str(), source().await), ("1", json!("config.toml")));
    edit(&server, root, "[weights]\n2 = 100").await;
    assert_eq!(answering(&server).await, "2", "config.toml is followed");
    // A reset is taken back like any change; a configuration that would reach nobody is refused.
    change(&server, "/models/add/rollback", "").await;
    assert_eq!(source().await, "admin revision 5");
    edit(&server, root, "[weights]\n4 = 100").await;
    let refused = post(&server, "/models/add/traffic/reset", "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(
        refused.error().contains("the configuration's traffic") && refused.error().contains("version 4"),
        "{refused:?}"
    );
    assert_eq!(answering(&server).await, "2");
}
