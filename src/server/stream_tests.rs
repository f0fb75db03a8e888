//! Tests of connections over a stream in memory, from the client's bytes to the model and back.
//!
//! The stream is as difficult as a layer above TCP may be: its reads and writes are short, and it keeps written bytes until the
//! next write or flush.

use axum::http::Request;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::{
    future::{pending, ready},
    io::{self, IoSlice},
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering::Relaxed},
    task::{Context as TaskContext, Poll, Waker, ready},
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    runtime::Runtime,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use super::{
    activity::ConnectionActivity,
    byte_stream::{ByteStream, StreamHandle},
    config::ServerConfig,
    connection::{Peer, PortConfig},
    derived_limits,
    http_limits::HttpLimits,
};
use crate::{
    api::{
        CodecPool, Context, ServerPhase, Service,
        proto::{ModelInferRequest, ModelInferResponse, model_infer_request::InferInputTensor},
    },
    batcher::Compute,
    engine::{Engine, tests::onnx},
    loader::Loader,
    metrics::{Exposition, TransportMetrics},
    registry::{Options, Registry},
    repository::Repository,
    router::Router,
    state::FolderStore,
};

/// Bytes of one write at most.
const MAX_WRITE: usize = 1000;

const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A limit that a test waits for.
const SHORT_TIMEOUT: Duration = Duration::from_millis(50);

/// The stream, split from the beginning, so that a test can keep its handle.
struct ShortStream(ShortReader, Arc<ShortHandle>);

struct ShortReader {
    handle: Arc<ShortHandle>,
    max_read: usize,
}

struct ShortHandle(Mutex<StreamState>);

struct StreamState {
    pipe: DuplexStream,
    /// Bytes that were written and not sent.
    kept: BytesMut,
    resets: bool,
}

impl ShortHandle {
    fn state(&self) -> MutexGuard<'_, StreamState> {
        self.0.lock().unwrap()
    }
}

impl StreamState {
    fn send(&mut self, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let sent = ready!(Pin::new(&mut self.pipe).poll_write(context, &self.kept))?;
            self.kept.advance(sent);
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, context: &mut TaskContext<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.send(context))?;
        let written = data.len().min(MAX_WRITE);
        self.kept.extend_from_slice(&data[..written]);
        Poll::Ready(Ok(written))
    }
}

impl ByteStream for ShortStream {
    type Reader = ShortReader;
    type Handle = ShortHandle;

    fn split(self) -> (ShortReader, Arc<ShortHandle>) {
        (self.0, self.1)
    }
}

impl AsyncRead for ShortReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut piece = vec![0; self.max_read.min(buffer.remaining())];
        let mut read = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.handle.state().pipe).poll_read(context, &mut read))?;
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

/// The result of a poll that does not wait.
fn at_once<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl StreamHandle for ShortHandle {
    fn poll_write(&self, context: &mut TaskContext<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.state().write(context, data)
    }

    fn poll_write_vectored(&self, context: &mut TaskContext<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.state().write(context, data.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(&self, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        self.state().send(context)
    }

    fn poll_shutdown(&self, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        ready!(state.send(context))?;
        Pin::new(&mut state.pipe).poll_shutdown(context)
    }

    fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        at_once(self.state().write(&mut TaskContext::from_waker(Waker::noop()), data))
    }

    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        let mut read = ReadBuf::new(room);
        let mut context = TaskContext::from_waker(Waker::noop());
        at_once(Pin::new(&mut self.state().pipe).poll_read(&mut context, &mut read))?;
        Ok(read.filled().len())
    }

    fn reset_at_end(&self) {
        self.state().resets = true;
    }

    async fn until_finished(&self) -> bool {
        pending().await
    }

    async fn until_reset(&self) {
        pending().await
    }
}

/// A server without ports, whose model `add` adds 2.
struct ServerFixture {
    context: Context,
    transport: TransportMetrics,
    limits: HttpLimits,
    runtime: Runtime,
    _phase: watch::Sender<ServerPhase>,
    _registry: Registry,
    _folders: [TempDir; 2],
}

/// A connection that is served.
struct ServedConnection {
    client: DuplexStream,
    handle: Arc<ShortHandle>,
    end: JoinHandle<()>,
}

impl ServerFixture {
    fn start() -> Self {
        let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let repository = folders[0].path();
        onnx::add(2.0).save(&repository.join("add.onnx"));
        let config = ServerConfig::of_repository(repository);
        let exposition = Arc::new(Exposition::new(&[]));
        let metrics = exposition.server().clone();
        let (transport, codecs) = (metrics.transport.clone(), CodecPool::start(2, metrics.codecs.clone()).unwrap());
        let (router, compute) = (Arc::new(Router::new(metrics)), Compute::start(2).unwrap());
        let options = Options {
            repository: Repository::open(repository, None, &[]).unwrap(),
            control: config.loads.control,
            memory: None,
            load_timeout: TEST_TIMEOUT,
        };
        let store = Box::new(FolderStore::open(folders[1].path().into()).unwrap());
        let loader = Loader::new(Engine::for_tests(), compute.clone(), exposition, 2);
        let mut registry = Registry::new(options, store, loader, router.clone(), Arc::default());
        registry.load_all(&|_| ()).unwrap();
        let phase = watch::Sender::new(ServerPhase::Serving);
        let context = Context {
            router,
            phase: phase.subscribe(),
            ready_when: config.ready,
            limits: Arc::new(derived_limits::limits(&config.clients)),
            codecs,
            compute,
            access_log: None,
            ports: Arc::default(),
        };
        ServerFixture {
            context,
            transport,
            limits: derived_limits::http_limits(&config.clients),
            runtime: Runtime::new().unwrap(),
            _phase: phase,
            _registry: registry,
            _folders: folders,
        }
    }

    fn port(&self, service: Service) -> PortConfig {
        PortConfig::new(service, Arc::new(self.limits.clone()), self.context.phase.clone(), self.transport.clone())
    }

    /// Serves a stream over which the client has sent `sent`. The stream keeps `room` bytes in each direction.
    async fn serve(&self, service: Service, sent: &[u8], room: usize, max_read: usize) -> ServedConnection {
        let (mut client, pipe) = duplex(room);
        client.write_all(sent).await.unwrap();
        let state = StreamState { pipe, kept: BytesMut::new(), resets: false };
        let handle = Arc::new(ShortHandle(Mutex::new(state)));
        let stream = ShortStream(ShortReader { handle: handle.clone(), max_read }, handle.clone());
        let serving = self.port(service).serve(ready(Ok(stream)), peer(Arc::default()), pending());
        ServedConnection { client, handle, end: tokio::spawn(serving) }
    }
}

fn peer(activity: Arc<ConnectionActivity>) -> Peer {
    Peer { client: (Ipv4Addr::LOCALHOST, 1).into(), activity, health_only: None }
}

/// An inference of `rows` rows of zeros.
fn inference(headers: &str, rows: usize) -> Vec<u8> {
    let data = vec!["0"; 2 * rows].join(",");
    let body = format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},2],"data":[{data}]}}]}}"#);
    let length = body.len();
    format!("POST /v2/models/add/infer HTTP/1.1\r\nhost: a\r\n{headers}content-length: {length}\r\n\r\n{body}").into()
}

/// The head and the body of the next answer.
async fn answer(client: &mut DuplexStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap().0;
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

fn assert_answers(answer: &(String, String), rows: usize) {
    let (head, body) = answer;
    let data = vec!["2.0"; 2 * rows].join(",");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.contains(&format!("\"data\":[{data}]")), "{head}{body}");
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(TEST_TIMEOUT, future).await.expect("it takes too long")
}

/// The fast path gives up a request that comes in too many pieces, or too slowly. This one has arrived.
#[test]
fn fast_path_answers_over_any_stream() {
    let bench = ServerFixture::start();
    bench.runtime.block_on(async {
        let service = Service::http(&bench.context);
        let pipelined = [inference("", 1), inference("", 1000), inference("", 3)].concat();
        let mut served = bench.serve(service, &pipelined, 64 << 10, 1000).await;
        for rows in [1, 1000, 3] {
            let answer = in_time(answer(&mut served.client)).await;
            assert_answers(&answer, rows);
            assert!(is_of_fast_path(&answer), "{answer:?}");
        }
        served.client.write_all(&inference("te: trailers\r\n", 2)).await.unwrap();
        let answer = in_time(answer(&mut served.client)).await;
        assert_answers(&answer, 2);
        assert!(!is_of_fast_path(&answer), "{answer:?}");
        drop(served.client);
        in_time(served.end).await.unwrap();
        assert!(!served.handle.state().resets);
    });
}

/// The fast path begins a head with the length, and hyper ends it with the date.
fn is_of_fast_path((head, _): &(String, String)) -> bool {
    head.starts_with("HTTP/1.1 200 OK\r\ncontent-length: ")
}

#[test]
fn hyper_answers_over_any_stream() {
    let bench = ServerFixture::start();
    bench.runtime.block_on(async {
        let mut served = bench.serve(Service::http(&bench.context), &inference("", 20), 4 << 10, 3).await;
        assert_answers(&in_time(answer(&mut served.client)).await, 20);
        let (mut sender, connection) = http1::handshake(TokioIo::new(served.client)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/v2/models/add").header("host", "a").header("te", "trailers");
        let response = in_time(sender.send_request(request.body(Full::<Bytes>::default()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = in_time(response.into_body().collect()).await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        assert!(body.contains("\"name\":\"add\""), "{body}");
        drop(sender);
        in_time(served.end).await.unwrap();
    });
}

#[test]
fn grpc_calls_are_answered_over_any_stream() {
    let bench = ServerFixture::start();
    bench.runtime.block_on(async {
        let served = bench.serve(Service::grpc(&bench.context), &[], 4 << 10, 5).await;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(served.client));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        for rows in [1, 5000] {
            let input = InferInputTensor {
                name: "x".into(),
                datatype: "FP32".into(),
                shape: vec![rows, 2],
                ..InferInputTensor::default()
            };
            let data = vec![0_u8; 8 * usize::try_from(rows).unwrap()];
            let message = ModelInferRequest {
                model_name: "add".into(),
                inputs: vec![input],
                raw_input_contents: vec![data.into()],
                ..ModelInferRequest::default()
            };
            let mut framed = vec![0_u8];
            framed.put_u32(u32::try_from(message.encoded_len()).unwrap());
            message.encode(&mut framed).unwrap();
            let request = Request::post("http://a/inference.GRPCInferenceService/ModelInfer")
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from(framed)))
                .unwrap();
            let response = in_time(sender.send_request(request)).await.unwrap();
            let body = in_time(response.into_body().collect()).await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            let answer = ModelInferResponse::decode(body.to_bytes().slice(5..)).unwrap();
            let expected = 2.0_f32.to_le_bytes().repeat(2 * usize::try_from(rows).unwrap());
            assert_eq!(answer.raw_output_contents, [expected]);
        }
        drop(sender);
        in_time(served.end).await.unwrap();
    });
}

#[test]
fn slow_clients_are_reset_over_any_stream() {
    let mut bench = ServerFixture::start();
    let service = Service::http(&bench.context);
    bench.limits.header_timeout = SHORT_TIMEOUT;
    bench.runtime.block_on(async {
        let silent = bench.serve(service.clone(), b"POST /v2", 4 << 10, 5).await;
        in_time(silent.end).await.unwrap();
        assert!(silent.handle.state().resets);
    });
    bench.limits = HttpLimits { header_timeout: TEST_TIMEOUT, write_timeout: SHORT_TIMEOUT, ..bench.limits };
    bench.runtime.block_on(async {
        // The answer is taken in one write, and waits for the flush.
        let mut deaf = bench.serve(service, &[], 100, 50).await;
        deaf.client.write_all(&inference("", 30)).await.unwrap();
        in_time(deaf.end).await.unwrap();
        assert!(deaf.handle.state().resets);
    });
}

#[test]
fn accepting_has_the_limits_of_a_connection() {
    let mut bench = ServerFixture::start();
    let service = Service::http(&bench.context);
    let never = pending::<io::Result<ShortStream>>;
    let activity = Arc::<ConnectionActivity>::default();
    let failed = ready(Err::<ShortStream, _>(io::ErrorKind::ConnectionReset.into()));
    bench.runtime.block_on(async {
        in_time(bench.port(service.clone()).serve(failed, peer(activity.clone()), pending())).await;
        activity.close_requested.notify_one();
        in_time(bench.port(service.clone()).serve(never(), peer(activity.clone()), pending())).await;
    });
    assert!(!activity.given_up.load(Relaxed));
    bench.limits.header_timeout = SHORT_TIMEOUT;
    bench.runtime.block_on(async {
        in_time(bench.port(service).serve(never(), peer(activity.clone()), pending())).await;
    });
    assert!(activity.given_up.load(Relaxed));
}
