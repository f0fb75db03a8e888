//! Bodies of requests as they come: bounded, counted, in time, and unpacked.

use axum::body::HttpBody;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    task::yield_now,
    time::{sleep, timeout, timeout_at},
};

use super::{
    compression::{Decoder, Encoding, STEP_BYTES},
    limits::{ByteLimit, Limits, Refusal, RefusalKind},
    memory_budget::{Share, guarded},
};
use crate::tensor::{ALIGNMENT, Inputs, Tensor};

/// A piece that is at least as large, and all that comes, stays where it was read. Smaller ones are copied: a few bytes would
/// keep a read buffer alive, which is larger.
pub(in crate::api) const MIN_KEPT_BYTES: usize = 64 << 10;

/// Bytes of a body that are taken in before other connections of the thread get their turn: a fast client could hold it for as
/// long as its body comes.
const MAX_STRETCH_BYTES: usize = 1 << 20;

/// Bytes of a body that are read though it is refused. Who sends more sees the connection close.
const MAX_DISCARDED_BYTES: usize = 1 << 30;

/// Time for which nothing of a refused body may come.
const DISCARD_STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that sends a byte for so many makes the server work for little work of its own. Such bodies are unpacked with a pause after
/// every step, so that a few of them don't take the CPUs from others.
const SUSPICIOUS_RATIO: usize = 64;
const SUSPICIOUS_PAUSE: Duration = Duration::from_millis(2);

/// Memory that unpacking takes beside the data, but for the window of zstd, which grows with it.
const WORKSPACE_BYTES: usize = (64 << 10) + SCRATCH_BYTES;
const SCRATCH_BYTES: usize = 32 << 10;

/// Pieces of a body that began to come when its head had, one after the other.
pub(in crate::api) struct Pieces {
    body: Incoming,
    limits: Arc<Limits>,
    began: Instant,
    received: usize,
    /// Bytes that came without a wait for more.
    at_a_stretch: usize,
    /// The place of a tensor that is to lie aligned.
    aligned: usize,
}

impl Pieces {
    pub(in crate::api) fn new(body: Incoming, limits: &Arc<Limits>, began: Instant) -> Self {
        Pieces { body, limits: limits.clone(), began, received: 0, at_a_stretch: 0, aligned: 0 }
    }

    /// Aligns the tensor at this place of the body, where the body is collected.
    pub(in crate::api) fn aligning(self, tensor: usize) -> Self {
        Pieces { aligned: tensor, ..self }
    }

    /// Bytes that are announced to come at least.
    fn announced(&self) -> u64 {
        self.body.size_hint().lower()
    }

    /// The next piece; `None` at the end.
    pub(in crate::api) async fn next(&mut self) -> Result<Option<Bytes>, Refusal> {
        loop {
            if self.body.is_end_stream() {
                return Ok(None);
            }
            if self.at_a_stretch >= MAX_STRETCH_BYTES {
                self.at_a_stretch = 0;
                yield_now().await;
            }
            // Most of the time it is there, and no clock is needed.
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    self.at_a_stretch = 0;
                    let limits = &self.limits;
                    let whole = self.began + limits.time_allowed(limits.body_timeout, self.received);
                    let deadline = whole.min(Instant::now() + limits.body_timeout);
                    // Aside: most requests have no use for a timer, and need not carry the room for one.
                    match Box::pin(timeout_at(deadline.into(), self.body.frame())).await {
                        Ok(frame) => frame,
                        Err(_) => return Err(self.too_slow()),
                    }
                }
            };
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(Refusal::new(RefusalKind::CutOff, format!("the request body can't be read: {error}")));
                }
                // Trailers say nothing.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        self.received += piece.len();
                        self.at_a_stretch += piece.len();
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    fn too_slow(&self) -> Refusal {
        let Limits { body_timeout, min_rate, .. } = *self.limits;
        let (received, after) = (self.received, self.began.elapsed().as_secs_f64());
        Refusal::new(
            RefusalKind::TooSlow,
            format!(
                "the request body did not come in time: {received} bytes in {after:.1} s; it may stand still for {body_timeout:?} (--body-timeout) and must come at {min_rate} bytes per second on the whole (--min-rate)"
            ),
        )
    }

    /// Bytes that have come.
    pub(in crate::api) fn received(&self) -> usize {
        self.received
    }

    /// Reads the rest and drops it, as long as it comes, so that a client that is still sending gets as far as reading why.
    async fn discard(mut self) {
        if self.announced() > MAX_DISCARDED_BYTES as u64 {
            return;
        }
        while self.received < MAX_DISCARDED_BYTES
            && matches!(timeout(DISCARD_STALL_TIMEOUT, self.next()).await, Ok(Ok(Some(_))))
        {}
    }

    /// All of them, unpacked where there is an encoding. Where they are refused and `discards` says so, the rest is still read.
    pub(in crate::api) async fn collect(
        mut self,
        limit: ByteLimit,
        encoding: Option<Encoding>,
        discards: bool,
    ) -> Result<Bytes, Refusal> {
        let collected = self.gather(limit, encoding).await;
        if collected.is_err() && discards {
            tokio::spawn(self.discard());
        }
        collected
    }

    async fn gather(&mut self, limit: ByteLimit, encoding: Option<Encoding>) -> Result<Bytes, Refusal> {
        // Where the length is announced, nobody has to wait for a body that is refused. (Packed, it would be larger still, or
        // the difference does not matter.)
        if self.announced() > limit.bytes as u64 {
            let by = format!("of {} bytes", self.announced());
            return Err(limit.exceeded(&by));
        }
        let mut collected = Collected::new(limit, self.announced(), encoding, &self.limits)?;
        collected.align(self.aligned);
        while let Some(piece) = self.next().await? {
            collected.take(piece).await?;
        }
        collected.finish()
    }
}

/// A body as far as it has come.
pub(in crate::api) struct Collected {
    limit: ByteLimit,
    /// Bytes that are announced to come; 0 where that is not known.
    announced: usize,
    limits: Arc<Limits>,
    share: Share,
    /// The only piece so far, where it is large.
    piece: Option<Bytes>,
    data: BodyBuffer,
    unpacker: Option<Box<Unpacker>>,
}

/// The memory of a body. Much of it is given back aside and bit by bit: the system takes milliseconds for it, and whoever
/// wants memory waits meanwhile.
#[derive(Default)]
struct BodyBuffer {
    memory: Vec<u8>,
    /// Where the body begins in it.
    start: usize,
    /// The place in the body that is to lie at a multiple of [`ALIGNMENT`].
    aligned: usize,
}

/// Memory that is given back in one go.
const FREED_STEP_BYTES: usize = 4 << 20;

/// From here on a buffer is as large as it can become.
const LARGE_BYTES: usize = 1 << 20;

impl BodyBuffer {
    /// Empty, for a body whose byte at `aligned` is to lie at a multiple of [`ALIGNMENT`].
    fn new(aligned: usize) -> Self {
        BodyBuffer { memory: Vec::new(), start: 0, aligned }
    }

    /// Makes room for `more` bytes of `most`. To move a large buffer as it grows takes milliseconds again and again; addresses
    /// for all of it take nothing until they are written to.
    fn make_room(&mut self, more: usize, most: usize) {
        let length = self.len();
        let BodyBuffer { memory, start, .. } = self;
        if memory.capacity() - memory.len() >= more {
            return;
        }
        // With as much as `place` may take.
        let more = more + ALIGNMENT;
        let rest = start.saturating_add(most).saturating_add(ALIGNMENT).saturating_sub(memory.len());
        let whole = length + more >= LARGE_BYTES && memory.try_reserve_exact(rest).is_ok();
        if !whole || memory.capacity() - memory.len() < more {
            memory.reserve(more);
        }
        self.place();
    }

    /// Moves the body to where it is aligned. Memory that has grown lies elsewhere, but mostly as it lay before: a large block
    /// has pages of its own.
    fn place(&mut self) {
        let BodyBuffer { memory, start, aligned } = self;
        let place = memory.as_ptr().addr().wrapping_add(*aligned);
        let (from, to) = (*start, place.wrapping_neg() % ALIGNMENT);
        let end = memory.len();
        memory.resize(end.max(end + to - from.min(to)), 0);
        memory.copy_within(from..end, to);
        memory.truncate(end + to - from);
        *start = to;
    }

    fn len(&self) -> usize {
        self.as_ref().len()
    }
}

/// Copies a small body so that the byte at `aligned` lies at a multiple of [`ALIGNMENT`].
pub(crate) fn aligned_copy(body: &[u8], aligned: usize) -> impl AsRef<[u8]> + Send + 'static + use<> {
    let mut buffer = BodyBuffer::new(aligned);
    buffer.make_room(body.len(), body.len());
    buffer.memory.extend_from_slice(body);
    buffer
}

impl AsRef<[u8]> for BodyBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }
}

impl Drop for BodyBuffer {
    fn drop(&mut self) {
        if self.memory.capacity() <= FREED_STEP_BYTES {
            return;
        }
        // A compute thread has none, and nobody who waits for it.
        if let Ok(runtime) = Handle::try_current() {
            let mut memory = std::mem::take(&mut self.memory);
            runtime.spawn_blocking(move || {
                while memory.capacity() > FREED_STEP_BYTES {
                    memory.truncate(memory.capacity() - FREED_STEP_BYTES);
                    memory.shrink_to(memory.capacity() - FREED_STEP_BYTES);
                }
            });
        }
    }
}

struct Unpacker {
    encoding: Encoding,
    decoder: Decoder,
    /// The buffer that it writes into, a little at a time.
    scratch: Vec<u8>,
    /// Memory that it takes beside the data.
    workspace: Share,
    /// Bytes that it was given.
    packed: usize,
    /// Bytes since others had the thread.
    worked: usize,
}

impl Collected {
    pub(in crate::api) fn new(
        limit: ByteLimit,
        announced: u64,
        encoding: Option<Encoding>,
        limits: &Arc<Limits>,
    ) -> Result<Self, Refusal> {
        let announced = if encoding.is_some() { 0 } else { usize::try_from(announced).unwrap_or(usize::MAX) };
        let unpacker = encoding.map(|encoding| {
            let mut workspace = Share::new(&limits.budget);
            if !workspace.grow(WORKSPACE_BYTES) {
                return Err(limits.full());
            }
            let decoder = Decoder::new(encoding).map_err(|error| malformed(encoding, &error))?;
            let scratch = Vec::with_capacity(SCRATCH_BYTES);
            Ok(Box::new(Unpacker { encoding, decoder, scratch, workspace, packed: 0, worked: 0 }))
        });
        Ok(Collected {
            limit,
            announced,
            limits: limits.clone(),
            share: Share::new(&limits.budget),
            piece: None,
            data: BodyBuffer::default(),
            unpacker: unpacker.transpose()?,
        })
    }

    /// Has what will come lie so that `tensor`, a place in it, is aligned: then ONNX Runtime gets it as it is.
    pub(in crate::api) fn align(&mut self, tensor: usize) {
        self.data.aligned = tensor;
    }

    /// Takes a piece in.
    pub(in crate::api) async fn take(&mut self, piece: Bytes) -> Result<(), Refusal> {
        if self.unpacker.is_some() {
            return Box::pin(self.unpack(&piece)).await;
        }
        let before = self.data.len() + self.piece.as_ref().map_or(0, Bytes::len);
        if before + piece.len() > self.limit.bytes {
            return Err(self.limit.exceeded("of unknown length"));
        }
        if !self.share.grow(piece.len()) {
            return Err(self.limits.full());
        }
        if before == 0 && piece.len() >= MIN_KEPT_BYTES && piece.len() >= self.announced {
            self.piece = Some(piece);
            return Ok(());
        }
        let first = self.piece.take().unwrap_or_default();
        // A client that announces much has not sent it yet.
        let more = if self.announced <= LARGE_BYTES { self.announced.saturating_sub(before) } else { 0 };
        let most = if self.announced == 0 { self.limit.bytes } else { self.announced.max(before + piece.len()) };
        self.data.make_room(first.len() + more.max(piece.len()), most);
        self.data.memory.extend_from_slice(&first);
        self.data.memory.extend_from_slice(&piece);
        Ok(())
    }

    async fn unpack(&mut self, mut piece: &[u8]) -> Result<(), Refusal> {
        let Collected { limit, limits, share, data, unpacker, .. } = self;
        let Some(unpacker) = unpacker else { return Ok(()) };
        let Unpacker { encoding, decoder, scratch, workspace, packed, worked } = &mut **unpacker;
        loop {
            scratch.clear();
            let taken = decoder.step(piece, scratch).map_err(|error| malformed(*encoding, &error))?;
            piece = &piece[taken..];
            *packed += taken;
            let came = scratch.len();
            if data.len() + came > limit.bytes {
                return Err(limit.exceeded(&format!("unpacked from {}", encoding.name())));
            }
            // zstd remembers what it gave, in a window.
            let remembered = if *encoding == Encoding::Zstd { came } else { 0 };
            if !share.grow(came) || !workspace.grow(remembered) {
                return Err(limits.full());
            }
            data.make_room(came, limit.bytes);
            data.memory.extend_from_slice(scratch);
            // With room left, all that can come has come.
            if piece.is_empty() && came < scratch.capacity() {
                return Ok(());
            }
            if taken == 0 && came == 0 {
                return Err(malformed(*encoding, &"it does not go on"));
            }
            *worked += came;
            if *worked >= STEP_BYTES {
                *worked = 0;
                if data.len() / SUSPICIOUS_RATIO > *packed {
                    sleep(SUSPICIOUS_PAUSE).await;
                } else {
                    yield_now().await;
                }
            }
        }
    }

    /// The whole, counted until its last slice is gone.
    pub(in crate::api) fn finish(self) -> Result<Bytes, Refusal> {
        if let Some(unpacker) = self.unpacker.filter(|unpacker| !unpacker.decoder.is_complete()) {
            return Err(malformed(unpacker.encoding, &"it ends in the middle"));
        }
        let mut data = self.data;
        if data.len() < data.memory.capacity() / 2 {
            data.memory.shrink_to_fit();
        }
        Ok(match self.piece {
            Some(piece) => guarded(piece, self.share),
            None if data.len() == 0 => Bytes::new(),
            None => guarded(data, self.share),
        })
    }
}

fn malformed(encoding: Encoding, why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(RefusalKind::Malformed, format!("the request body is not valid {}: {why}", encoding.name()))
}

/// Counts the tensors that do not lie in `counted`, the memory of the message they came in: they were decoded into memory of
/// their own.
pub(in crate::api) fn count_copies(
    inputs: &mut Inputs,
    counted: &[Range<*const u8>],
    limits: &Limits,
) -> Result<(), Refusal> {
    let Inputs::Named(inputs) = inputs else { return Ok(()) };
    for input in inputs {
        let data = input.tensor.data();
        if data.is_empty() || counted.iter().any(|range| range.contains(&data.as_ptr())) {
            continue;
        }
        let mut share = Share::new(&limits.budget);
        if !share.grow(data.len()) {
            return Err(limits.full());
        }
        let data = guarded(data.clone(), share);
        let (datatype, shape) = (input.tensor.datatype(), input.tensor.shape().clone());
        input.tensor =
            Tensor::new(datatype, shape, data).map_err(|error| Refusal { kind: RefusalKind::Malformed, error })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn body_keeps_its_bytes_and_aligns_the_tensor(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5000), 1..9),
            tensor in 0..1000usize,
            announced: bool,
        ) {
            let whole = pieces.concat();
            let mut buffer = BodyBuffer::new(tensor);
            for piece in &pieces {
                let more = if announced { whole.len() - buffer.len() } else { piece.len() };
                buffer.make_room(more, whole.len());
                buffer.memory.extend_from_slice(piece);
            }
            prop_assert_eq!(buffer.as_ref(), &whole);
            prop_assert!((buffer.as_ref().as_ptr().addr() + tensor).is_multiple_of(ALIGNMENT));
        }
    }
}
