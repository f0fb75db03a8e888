//! Admin authentication.

use http::{Method, Request, header};
use onnxd::api::proto::admin::{ListModelsRequest, RollbackRequest, admin_service_client::AdminServiceClient};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;
use tonic::{Code, metadata::MetadataValue, transport::Channel};

use super::{client, repository};
use crate::{
    cli::{ended, text},
    support::{
        client::{Answer, get, send},
        server::{Server, field, onnxd},
    },
};

async fn with(server: &Server, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().method(Method::GET).uri(format!("http://{}/admin/v1/models", server.admin));
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    send(request.body(axum::body::Body::empty()).unwrap()).await
}

async fn over_grpc(server: &Server, authorization: Option<&str>) -> Code {
    let mut request = tonic::Request::new(ListModelsRequest {});
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    client(server).await.list_models(request).await.err().map_or(Code::Ok, |status| status.code())
}

fn write(file: &Path, tokens: &str) {
    let aside = file.with_extension("aside");
    fs::write(&aside, tokens).unwrap();
    fs::rename(aside, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_token_is_required_and_reloaded() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let file = folder.path().join("tokens");
    write(&file, "first-token \n");
    let server = Server::start_with(repository.path(), &["--admin-token-file", file.to_str().unwrap()]);

    for wrong in [
        None,
        Some("Bearer wrong"),
        Some("Bearer first-toke"),
        Some("Bearer first-token2"),
        Some("Basic first-token"),
        Some("Bearer "),
        Some(""),
    ] {
        let refused = with(&server, wrong).await;
        assert_eq!(refused.status, 401, "{wrong:?}");
        assert_eq!(refused.headers["www-authenticate"], "Bearer realm=\"onnxd\"");
        assert_eq!(refused.json()["code"], "unauthenticated");
        assert!(refused.error().contains("token"), "{refused:?}");
        assert_eq!(over_grpc(&server, wrong).await, Code::Unauthenticated, "{wrong:?}");
    }
    assert_eq!(with(&server, Some("Bearer first-token")).await.status, 200);
    assert_eq!(over_grpc(&server, Some("bearer first-token")).await, Code::Ok);

    // A path that shows nothing of traffic and changes nothing is open.
    assert_eq!(get(server.admin, "/admin/v1/openapi.json").await.status, 200);

    // Rotated: new tokens count at once, and removed ones do not.
    write(&file, "ann:second-token\nbob:third-token\n");
    assert_eq!(with(&server, Some("Bearer first-token")).await.status, 401);
    assert_eq!(with(&server, Some("Bearer third-token")).await.status, 200);
    // Gone, or empty: the last good ones go on counting.
    fs::remove_file(&file).unwrap();
    assert_eq!(with(&server, Some("Bearer second-token")).await.status, 200);
    write(&file, "\n");
    assert_eq!(over_grpc(&server, Some("Bearer second-token")).await, Code::Ok);
    assert_eq!(with(&server, Some("Bearer first-token")).await.status, 401);
    for problem in ["can't be read", "has no token"] {
        server.wait_for_log(|line| {
            line["level"] == "ERROR"
                && line["setting"] == "--admin-token-file"
                && field(line, "error").contains(problem)
        });
    }

    // The name that a token has is recorded as the actor of a change.
    for (actor, reported) in [("", "ann"), ("carl", "carl (token of ann)")] {
        let path = format!("http://{}/admin/v1/models/add/weights", server.admin);
        let body = format!(r#"{{"weights": {{"2": 1}}, "actor": "{actor}"}}"#);
        let request = Request::post(path).header("authorization", "Bearer second-token").body(body.into()).unwrap();
        assert_eq!(send(request).await.json()["record"]["actor"], reported);
    }
    let mut request = tonic::Request::new(RollbackRequest { model: "add".into(), ..Default::default() });
    request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer third-token"));
    let answer = client(&server).await.rollback(request).await.unwrap().into_inner();
    assert_eq!(answer.record.unwrap().actor, "bob");
}

/// Whoever can write a token into the file controls the server.
#[tokio::test(flavor = "multi_thread")]
async fn world_writable_token_file_is_rejected() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let file = folder.path().join("tokens");
    write(&file, "a-token\n");
    let allow = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o666);
    let output = ended(onnxd().arg("serve").arg(repository.path()).arg("--admin-token-file").arg(&file));
    let reported = text(&output.stderr);
    assert!(!output.status.success() && reported.contains("every user may write to it (mode 666)"), "{reported}");
    assert!(reported.contains("chmod o-w") && !reported.contains("a-token"), "{reported}");
    // Secrets are mounted so.
    allow(0o644);
    let server = Server::start_with(repository.path(), &["--admin-token-file", file.to_str().unwrap()]);
    assert_eq!(with(&server, Some("Bearer a-token")).await.status, 200);
    server.wait_for_log(|line| line["level"] == "INFO" && line["mode"] == "644");
    allow(0o602);
    fs::write(&file, "another-token\n").unwrap();
    assert_eq!(with(&server, Some("Bearer another-token")).await.status, 401);
    assert_eq!(with(&server, Some("Bearer a-token")).await.status, 200, "the tokens that it had go on counting");
    server.wait_for_log(|line| line["level"] == "ERROR" && field(line, "error").contains("mode 602"));
}

/// A page that somebody looks at can send requests to this machine. Without tokens they are refused.
#[tokio::test(flavor = "multi_thread")]
async fn web_pages_cannot_call_the_admin_api() {
    let repository = repository();
    let server = Server::start(repository.path());
    let request = Request::post(format!("http://{}/admin/v1/models/add/rollback", server.admin));
    let refused = send(request.header("origin", "http://example.com").body("".into()).unwrap()).await;
    assert_eq!(refused.status, 401);
    assert!(refused.error().contains("web page"), "{refused:?}");
}

/// Nor may one whose name has come to lead here (DNS rebinding): its requests have no `Origin`, but its name.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_host_names_are_rejected() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let named = async |server: &Server, host: &str| {
        let request = Request::get(format!("http://{}/admin/v1/models", server.admin)).header(header::HOST, host);
        let token = request.header(header::AUTHORIZATION, "Bearer a-token");
        send(token.body(axum::body::Body::empty()).unwrap()).await
    };
    let over_grpc = async |server: &Server, host: &str| {
        let endpoint = Channel::from_shared(format!("http://{}", server.admin)).unwrap();
        let channel = endpoint.origin(format!("http://{host}").parse().unwrap()).connect().await.unwrap();
        let answer = AdminServiceClient::new(channel).list_models(ListModelsRequest {}).await;
        answer.err().map_or(Code::Ok, |status| status.code())
    };
    let server = Server::start(repository.path());
    for host in
        ["evil.example", "evil.example:8003", "localhost.evil.example", "127.0.0.1.evil.example", "evil", "@localhost"]
    {
        let refused = named(&server, host).await;
        assert_eq!(refused.status, 401, "{host}: {refused:?}");
        assert!(refused.error().contains(host) && refused.error().contains("--admin-token-file"), "{refused:?}");
    }
    assert_eq!(over_grpc(&server, "evil.example:8003").await, Code::Unauthenticated);
    for host in ["localhost", "LOCALHOST:8003", "app.localhost:1", "127.0.0.1:9", "[::1]:8003", "10.0.0.1"] {
        assert_eq!(named(&server, host).await.status, 200, "{host}");
    }
    assert_eq!(over_grpc(&server, "localhost:1").await, Code::Ok);
    drop(server);

    // A page knows no token; and where something else sees to who comes, it knows by which name.
    let token = folder.path().join("token");
    write(&token, "a-token");
    for options in [["--admin-token-file", token.to_str().unwrap()].as_slice(), &["--admin-insecure"]] {
        let server = Server::start_with(repository.path(), options);
        assert_eq!(named(&server, "models.example:8003").await.status, 200, "{options:?}");
    }
}

#[test]
fn non_loopback_admin_port_requires_a_token() {
    let (repository, folder) = (repository(), TempDir::new().unwrap());
    let token = folder.path().join("token");
    let serve = |options: &[&str]| {
        let mut command = onnxd();
        command.arg("serve").arg(repository.path()).args(["--http", "off", "--grpc", "off", "--metrics", "off"]);
        command.arg("--state-dir").arg(folder.path().join("state")).args(options);
        let output = ended(&mut command);
        (output.status.code(), text(&output.stderr).to_owned())
    };
    let (code, reported) = serve(&["--admin", "0.0.0.0:0"]);
    assert_eq!(code, Some(1), "{reported}");
    for part in ["0.0.0.0:0", "--admin-token-file", "127.0.0.1:8003", "--admin-insecure"] {
        assert!(reported.contains(part), "{part}: {reported}");
    }
    for (tokens, says) in [(None, "No such file"), (Some(" \n"), "it has no token"), (Some("a b"), "line 1")] {
        if let Some(tokens) = tokens {
            fs::write(&token, tokens).unwrap();
        }
        let (code, reported) = serve(&["--admin", "127.0.0.1:0", "--admin-token-file", token.to_str().unwrap()]);
        assert_eq!(code, Some(1), "{reported}");
        assert!(reported.contains(token.to_str().unwrap()) && reported.contains(says), "{reported}");
    }
    // With a token, or the option to do without, it opens.
    fs::write(&token, "a-token").unwrap();
    for options in [["--admin-token-file", token.to_str().unwrap()].as_slice(), &["--admin-insecure"]] {
        let options = [["--admin", "0.0.0.0:0"].as_slice(), options].concat();
        Server::start_with(repository.path(), &options);
    }
}
