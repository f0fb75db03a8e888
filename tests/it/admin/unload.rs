//! Unloading what gets requests takes force, and versions may be named by aliases.

use http::Method;
use onnxd::api::proto::admin::{PromoteRequest, UnloadVersionRequest};
use serde_json::json;
use tonic::Code;

use super::{
    answering, call, change, client,
    commands::{printed, run},
    model, post, repository,
};
use crate::support::server::{Server, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn serving_version_is_unloaded_only_by_force() {
    let repository = repository();
    let server = Server::start(repository.path());
    // Without any setting: the highest gets all.
    let refused = post(&server, "/models/add/versions/3/unload", "").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.error().contains("version 3 gets 100 % of the requests"), "{refused:?}");
    change(&server, "/models/add/weights", r#"{"weights": {"2": 2, "3": 1}}"#).await;
    let set = call(server.admin, Method::PUT, "/models/add/aliases/canary", r#"{"version": 1}"#).await;
    assert_eq!(set.status, 200, "{set:?}");
    for (body, says) in [
        (r#"{"version": 3}"#, &["version 3 gets 33.333 % of the requests", "onnxd traffic set add", "--force"][..]),
        (
            r#"{"version": 1}"#,
            &["version 1 is what the alias 'canary' points to", "onnxd alias set add", "\"force\": true"],
        ),
        ("", &["version 1 is", "version 2 gets 66.667 %", "version 3 gets", "name the versions to unload"]),
    ] {
        let refused = post(&server, "/models/add/unload", body).await;
        assert_eq!(refused.status, 409, "{refused:?}");
        says.iter().for_each(|part| assert!(refused.error().contains(part), "{part}: {refused:?}"));
    }
    let request = UnloadVersionRequest { model: "add".into(), version: Some(3), ..Default::default() };
    let refused = client(&server).await.unload_version(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert_eq!(model(&server).await["versions"][2]["share"], json!(1.0 / 3.0), "nothing is changed");
    // A version that gets none, is none of these; and force unloads.
    let (code, _, err) = run(&server, "unload add 3");
    assert_eq!(code, 1);
    assert!(err.contains("gets 33.333 %") && err.contains("--force"), "{err}");
    let (code, out, err) = run(&server, "unload add 3 --force");
    assert!(code == 0 && err.contains("got 33.333 %"), "{out}{err}");
    assert!(out.starts_with("add revision 3: unload version 3 by force\n"), "{out}");
    assert_eq!(answering(&server).await, "2");
    // Once more changes nothing, and takes no force.
    eventually("version 3 is unloaded", async || model(&server).await["versions"][2]["state"] == "UNLOADED").await;
    assert_eq!(run(&server, "unload add 3").0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_stand_where_versions_stand() {
    let repository = repository();
    let server = Server::start(repository.path());
    printed(&server, "alias set add stable 2");
    printed(&server, "alias set add canary 3");
    for (line, prints) in [
        ("traffic set add stable=95 canary=5", "set weights 2=95 3=5"),
        ("traffic set add 1=1 stable=9", "set weights 1=1 2=9"),
        ("traffic shift add stable canary 5", "shift 5 points from version 2 to 3"),
        ("promote add canary", "promote version 3"),
        ("alias set add old stable", "set alias old to version 3"),
        ("alias set add old 1", "set alias old to version 1"),
        ("unload add@old --force", "unload version 1 by force"),
        ("load add old --no-wait", "load version 1"),
    ] {
        let out = printed_first_line(&server, line);
        assert!(out.contains(prints), "{line}: {out}");
    }
    assert!(printed(&server, "load add@old").contains("READY"));
    assert!(printed(&server, "reload add old").contains("READY"));
    assert!(printed(&server, "explain add --version old").starts_with("add: version 1, alias: "));

    // Over HTTP and gRPC; the answer has the number.
    let promoted = change(&server, "/models/add/promote", r#"{"version_alias": "old"}"#).await;
    assert_eq!(
        (&promoted["record"]["version"], &promoted["record"]["change"]),
        (&json!(1), &json!("promote version 1"))
    );
    let reloaded = change(&server, "/models/add/versions/canary/reload", "").await;
    assert_eq!(reloaded["record"]["version"], 3);
    let request = PromoteRequest { model: "add".into(), version_alias: "canary".into(), ..Default::default() };
    let promoted = client(&server).await.promote(request).await.unwrap().into_inner();
    assert_eq!(promoted.record.unwrap().version, Some(3));
    let ready = crate::support::client::get(server.admin, "/admin/v1/models/add/wait?version_alias=old").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    for (path, body, status, says) in [
        ("/models/add/promote", r#"{"version_alias": "beta"}"#, 404, &["'add'", "'beta'", "canary, old, stable"][..]),
        ("/models/nobody/promote", r#"{"version_alias": "beta"}"#, 404, &["'nobody'", "unknown model"]),
        ("/models/add/promote", r#"{"version": 3, "version_alias": "old"}"#, 400, &["both", "3", "'old'"]),
        ("/models/add/promote", r#"{"version_alias": "a b"}"#, 400, &["version_alias", "'a b'"]),
        (
            "/models/add/weights",
            r#"{"weights": {"3": 1}, "alias_weights": {"canary": 2}}"#,
            400,
            &["version 3", "'canary'"],
        ),
        ("/models/add/weights", r#"{"alias_weights": {"canary": -2}}"#, 400, &["version 3", "-2"]),
        ("/models/add/shift", r#"{"from_alias": "old", "points": 1}"#, 400, &["to"]),
        ("/models/add/versions/a%20b/load", "", 400, &["version", "'a b'"]),
    ] {
        let refused = post(&server, path, body).await;
        assert_eq!(refused.status, status, "{path} {body}: {refused:?}");
        says.iter().for_each(|part| assert!(refused.error().contains(part), "{part}: {refused:?}"));
    }
}

/// The first line of what a command prints that must be done; it may warn.
fn printed_first_line(server: &Server, line: &str) -> String {
    let (code, out, err) = run(server, line);
    assert_eq!(code, 0, "{line}: {out}{err}");
    out.lines().next().unwrap_or_default().to_owned()
}
