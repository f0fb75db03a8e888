//! Large requests and answers hold nobody up, and answers have to fit into the byte budget.

use onnxd::api::proto::{InferTensorContents, ModelInferRequest};
use prost::Message;
use serde_json::json;
use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tonic::Code;

use super::{INFER, assert_well, echo_json, framed, infer_framed, start};
use crate::support::{
    client::{infer, inference, input, metric, post, raw_request},
    h1::Connection,
    onnx::{self, FLOAT, Graph, INT64, node, value},
    server::{Server, WAIT_TIMEOUT, eventually},
};

const MIB: usize = 1 << 20;

/// The longest time that an answer to something small took meanwhile, over connections that lie on every I/O thread, and how long
/// `large` took.
fn meanwhile(server: &Server, large: impl FnOnce()) -> (Duration, Duration) {
    let done = Arc::new(AtomicBool::new(false));
    let threads = 2 * thread::available_parallelism().unwrap().get();
    let clients: Vec<_> = (0..threads)
        .map(|_| {
            let (address, done) = (server.http, done.clone());
            thread::spawn(move || {
                let mut connection = Connection::open(address).unwrap();
                let mut longest = Duration::ZERO;
                let small = echo_json(2);
                while !done.load(Relaxed) {
                    let asked = Instant::now();
                    assert_eq!(connection.post(INFER, &small).unwrap().status, 200);
                    longest = longest.max(asked.elapsed());
                    thread::sleep(Duration::from_millis(5));
                }
                longest
            })
        })
        .collect();
    let began = Instant::now();
    large();
    let took = began.elapsed();
    done.store(true, Relaxed);
    (clients.into_iter().map(|client| client.join().unwrap()).max().unwrap(), took)
}

/// Fails unless every small request takes less than one of so many `parts` of a large one. Other processes may hold up a small one
/// too, but not each time: it is tried again then.
fn holds_up_nobody(server: &Server, parts: u32, large: impl Fn()) {
    let since = Instant::now();
    loop {
        let (longest, took) = meanwhile(server, &large);
        if longest < took / parts {
            return;
        }
        assert!(since.elapsed() < WAIT_TIMEOUT, "a small request took {longest:?} beside a large one of {took:?}");
    }
}

/// On an I/O thread it would hold up every other connection of that thread for all the time that it takes.
#[tokio::test(flavor = "multi_thread")]
async fn large_json_holds_up_no_other_connection() {
    let (_repository, server) = start(&[]);
    let body = echo_json(2_000_000);
    holds_up_nobody(&server, 4, || {
        let answer = Connection::open(server.http).unwrap().post(INFER, &body).unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > 10 * MIB);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn large_typed_contents_hold_up_no_other_connection() {
    let (_repository, server) = start(&[]);
    let count = 5_000_000;
    let contents = InferTensorContents { fp32_contents: vec![0.5; count], ..Default::default() };
    let mut input = input("x", "FP32", &[1, count as i64]);
    input.contents = Some(Box::new(contents));
    let request = ModelInferRequest { model_name: "echo".into(), inputs: vec![input], ..Default::default() };
    let client = inference(&server).await;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        holds_up_nobody(&server, 2, || {
            let answer = runtime.block_on(infer(&client, request.clone())).unwrap();
            assert_eq!(answer.raw_output_contents[0].len(), count * 4);
        });
    });
}

/// Errors of a large body are reported as for a small one, and a client that has gone costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_refused_as_small_ones_are() {
    let (_repository, server) = start(&[]);
    let numbers = "1,".repeat(MIB);
    for (body, says) in [
        (
            format!("{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[{numbers}1]}}]}}"),
            "the shape has 2 elements, data has 1048577",
        ),
        (
            format!("{{\"inputs\":[{{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[{numbers}}}]}}"),
            "expected a value, got '}'",
        ),
    ] {
        let answer = post(server.http, INFER, body).await;
        assert!(answer.status == 400 && answer.error().contains(says), "{}", answer.error());
    }
    let typed = InferTensorContents { int64_contents: vec![7; MIB], ..Default::default() };
    let mut wrong = input("x", "FP32", &[1, MIB as i64]);
    wrong.contents = Some(Box::new(typed));
    let request = ModelInferRequest { model_name: "echo".into(), inputs: vec![wrong], ..Default::default() };
    let (status, _) = infer_framed(&server, &[], framed(false, &request.encode_to_vec())).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("must stand in fp32_contents, got int64_contents"), "{status}");
    // A message of a method that takes little.
    let (status, _, _) =
        super::call(&server, "/inference.GRPCInferenceService/ServerLive", &[], framed(false, &[0x0a, 0].repeat(MIB)))
            .await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("the message of this method"), "{status}");
    assert_well(&server).await;
}

/// `y = Range(0, limit, 1)`, or `limit` zeros as FP32 or BOOL by its name.
fn grows() -> Graph {
    let scalar = |name: &str, number: i64| onnx::Tensor {
        data_type: INT64,
        name: name.into(),
        raw_data: number.to_le_bytes().to_vec(),
        ..onnx::Tensor::default()
    };
    Graph {
        node: vec![
            node("Range", &["zero", "limit", "one"], &["y"]),
            node("Cast", &["y"], &["f"]).int("to", FLOAT.into()),
        ],
        name: "grows".into(),
        initializer: vec![scalar("zero", 0), scalar("one", 1)],
        input: vec![value("limit", INT64, &[])],
        output: vec![value("y", INT64, &["n"]), value("f", FLOAT, &["n"])],
    }
}

/// A few bytes ask for an answer of any size.
#[tokio::test(flavor = "multi_thread")]
async fn answers_have_to_fit_into_the_budget() {
    let repository = TempDir::new().unwrap();
    grows().save(&repository.path().join("grows/1/model.onnx"));
    let server = Server::start_with(repository.path(), &["--request-memory", "16MiB"]);
    let ask = async |limit: usize, parameters: &str| {
        let body = format!(
            "{{\"inputs\":[{{\"name\":\"limit\",\"datatype\":\"INT64\",\"shape\":[],\"data\":[{limit}]}}]{parameters}}}"
        );
        post(server.http, "/v2/models/grows/infer", body).await
    };
    assert_eq!(ask(1000, "").await.json()["outputs"][0]["data"][999], 999);
    let before = server.peak_memory();
    let binary = ",\"parameters\":{\"binary_data_output\":true}";
    // As JSON and in binary; what never fits, and what does not fit beside what is kept for the small.
    for (limit, parameters, status) in
        [(4 * MIB, "", 413), (4 * MIB, binary, 413), (1_280_000, "", 429), (1_280_000, binary, 429)]
    {
        let answer = ask(limit, parameters).await;
        assert_eq!(answer.status, status, "{limit}{parameters}: {} bytes", answer.body.len());
        assert!(answer.error().contains("the answer") && answer.error().contains("(--request-memory)"), "{answer:?}");
        assert_eq!(answer.headers.contains_key("retry-after"), status == 429, "{answer:?}");
    }
    let client = inference(&server).await;
    let grpc = async |limit: usize| {
        let request = raw_request("grows", "limit", "INT64", &[], (limit as i64).to_le_bytes().to_vec());
        infer(&client, request).await
    };
    for limit in [4 * MIB, 1_280_000] {
        let status = grpc(limit).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.message().contains("--request-memory"), "{status}");
    }
    // The tensors themselves are there once: 12 bytes an element, and of each run's the allocator keeps some.
    let grown = server.peak_memory() - before;
    assert!(grown < 3 * 12 * 4 * MIB, "the server has grown by {} MiB", grown / MIB);
    // A request that fits is answered, whole.
    let answer = ask(300_000, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["outputs"][1]["data"][299_999], json!(299_999.0));
    assert_eq!(ask(300_000, binary).await.binary().1.len(), 300_000 * 12);
    assert_eq!(grpc(300_000).await.unwrap().raw_output_contents[0].len(), 300_000 * 8);
    assert_eq!(metric(&server, "onnxd_request_memory_refused_total", &[]).await, 6.0);
    eventually("all of it is given back", async || metric(&server, "onnxd_request_memory_bytes", &[]).await == 0.0)
        .await;
}

/// Jobs of the codec threads that ended so.
async fn codec_jobs(server: &Server, outcome: &str) -> f64 {
    metric(server, "onnxd_codec_jobs_total", &[&format!("outcome=\"{outcome}\"")]).await
}

/// The elements of BYTES are checked one by one.
#[tokio::test(flavor = "multi_thread")]
async fn large_bytes_are_checked_and_copied_off_the_io_threads() {
    const STRING: i32 = 8;
    let repository = TempDir::new().unwrap();
    onnx::identity(STRING, &["batch", "n"]).save(&repository.path().join("words/1/model.onnx"));
    std::fs::write(repository.path().join("words/config.toml"), "max_batch_size = 1\n").unwrap();
    let server = Server::start(repository.path());
    let client = inference(&server).await;
    let element = [&16_u32.to_le_bytes()[..], &[b'w'; 16]].concat();
    let request = |elements: i64| {
        let data = element.repeat(2 * elements as usize);
        raw_request("words", "x", "BYTES", &[2, elements], data)
    };
    infer(&client, request(1000)).await.unwrap();
    assert_eq!(codec_jobs(&server, "done").await, 0.0, "a small request is not worth it");
    let large = request(500_000);
    let data = large.raw_input_contents[0].clone();
    assert!(data.len() > 19 * MIB);
    let answer = infer(&client, large).await.unwrap();
    assert_eq!(answer.raw_output_contents, [data]);
    // The request was decoded, and the answer encoded.
    eventually("its end is counted", async || codec_jobs(&server, "done").await == 2.0).await;
    let mut wrong = request(500_000);
    let mut cut = wrong.raw_input_contents[0].to_vec();
    cut.pop();
    wrong.raw_input_contents[0] = cut.into();
    let refused = infer(&client, wrong).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("element 999999 of BYTES takes 16 bytes, got 15 bytes"), "{refused}");
    eventually("its end is counted", async || codec_jobs(&server, "done").await == 3.0).await;
}

/// A client that has left costs no encoding.
#[tokio::test(flavor = "multi_thread")]
async fn answers_for_clients_that_have_left_are_not_encoded() {
    let (_repository, server) = start(&[]);
    let count = 4_000_000;
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, count], "parameters": { "binary_data_size": 4 * count } });
    let head = json!({ "inputs": [input] }).to_string();
    let body = [head.as_bytes(), &vec![0x3f; 4 * count]].concat();
    let request = |connection: &std::net::TcpStream| {
        let length = body.len();
        let fields = format!("Content-Length: {length}\r\nInference-Header-Content-Length: {}", head.len());
        let request = format!("POST {INFER} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n");
        (&mut &*connection).write_all(&[request.as_bytes(), &body].concat()).unwrap();
    };
    let answered = || metric(&server, "onnxd_requests_total", &["model=\"echo\"", "code=\"ok\""]);
    // One large answer is encoded at a time on few CPUs, so those behind it wait; whichever is encoded is given up.
    let clients: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(server.http).unwrap()).collect();
    clients.iter().for_each(request);
    eventually("all runs have ended", async || answered().await == 3.0).await;
    for client in clients {
        let socket = socket2::Socket::from(client);
        // It ends with RST.
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
    let ended = async || (codec_jobs(&server, "done").await, codec_jobs(&server, "cancelled").await);
    eventually("all have ended", async || {
        let (done, cancelled) = ended().await;
        done + cancelled == 3.0
    })
    .await;
    // A fast machine may have encoded some before their clients left.
    let (done, cancelled) = ended().await;
    assert!(cancelled >= 1.0, "{done} {cancelled}");
    assert_eq!(metric(&server, "onnxd_request_memory_refused_total", &[]).await, 0.0, "there was room for all");
    assert_well(&server).await;
}
