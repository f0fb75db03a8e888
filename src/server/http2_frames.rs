//! Meters the frames of an HTTP/2 client, to end connections that flood the server with frames that carry no request.
//!
//! PING, SETTINGS, PRIORITY, WINDOW_UPDATE, RST_STREAM, empty DATA, and frames of unknown types cost the server time and cost the
//! client nine bytes. Honest clients send them too, in proportion to their requests and to the bytes that they read. So requests
//! and bytes of bodies and answers earn credit for such frames. Beyond that there is a rate limit.

use std::time::Instant;

/// Cost of a frame that carries nothing, in the bytes of bodies and answers that earn as much.
const FRAME_COST: i64 = 64;

/// Credit for a request: enough for the ping that measures its round trip, for updates of two windows, and for its cancellation.
const REQUEST_EARNS: i64 = 8 * FRAME_COST;

/// Frames without content that a client may send in one burst. The server processes all of them before it detects a flood.
const BURST: i64 = 500 * FRAME_COST;

/// Frames without content that a client may send for ever, per second.
const PER_SECOND: f64 = 1_000.0 * FRAME_COST as f64;

/// Bytes of a frame's header (RFC 9113 section 4.1), and of the preface that a client sends before its first frame (section 3.4).
const HEADER: usize = 9;
const PREFACE: usize = 24;

/// Types of frames, and the flag of one with padding (RFC 9113 section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PADDED: u8 = 8;

/// The meter of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    /// Bytes until the next frame begins.
    skip: usize,
    header: [u8; HEADER],
    /// Bytes of the header that have arrived.
    header_bytes: usize,
    credit: i64,
    max_credit: i64,
    refilled: Instant,
    /// Bytes that were written when credit was last given for them.
    written: u64,
    last_request: u32,
}

impl FrameMeter {
    /// The meter of a connection on which `streams` streams may be open: a client may cancel all its requests in one burst.
    pub(super) fn new(now: Instant, streams: u32) -> Self {
        FrameMeter {
            skip: PREFACE,
            header: [0; HEADER],
            header_bytes: 0,
            credit: BURST,
            max_credit: BURST + i64::from(streams) * REQUEST_EARNS,
            refilled: now,
            written: 0,
            last_request: 0,
        }
    }

    /// The stream of the client's last request.
    pub(super) fn last_request(&self) -> u32 {
        self.last_request
    }

    /// Meters bytes that were read. `written` is the number of bytes that the server has written so far. False if the client
    /// floods.
    #[must_use]
    pub(super) fn read(&mut self, mut bytes: &[u8], written: u64, now: impl Fn() -> Instant) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER - self.header_bytes).min(bytes.len());
            self.header[self.header_bytes..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_bytes += taken;
            bytes = &bytes[taken..];
            if self.header_bytes == HEADER {
                self.header_bytes = 0;
                self.frame();
            }
        }
        self.credit >= 0 || self.earn(written, now())
    }

    fn frame(&mut self) {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        self.skip = length as usize;
        let earned = match kind {
            HEADERS if stream > self.last_request => {
                self.last_request = stream;
                REQUEST_EARNS
            }
            DATA if flags & PADDED == 0 => i64::from(length) - FRAME_COST,
            _ => -FRAME_COST,
        };
        self.credit = (self.credit + earned).min(self.max_credit);
    }

    /// Gives credit for time and for bytes that were written. False if that does not suffice.
    fn earn(&mut self, written: u64, now: Instant) -> bool {
        let bytes = i64::try_from(written - self.written.min(written)).unwrap_or(i64::MAX);
        let time = now.saturating_duration_since(self.refilled).as_secs_f64() * PER_SECOND;
        (self.written, self.refilled) = (written, now);
        let earned = self.credit.saturating_add(bytes).min(self.max_credit);
        // A client that waits may send a burst, and no more than that.
        self.credit = earned.max(earned.saturating_add(time as i64).min(BURST));
        self.credit >= 0
    }
}

/// The first frame of a server, an empty SETTINGS.
pub(super) const EMPTY_SETTINGS: [u8; HEADER] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// GOAWAY, the frame that ends a connection for a flood (RFC 9113 section 6.8). Requests up to this stream may have been
/// processed.
pub(super) fn goaway(last_request: u32) -> Vec<u8> {
    const GOAWAY: u8 = 7;
    const ENHANCE_YOUR_CALM: u32 = 11;
    const WHY: &[u8] = b"too many frames without requests";
    let mut frame = vec![0, 0, 8 + WHY.len() as u8, GOAWAY, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last_request.to_be_bytes());
    frame.extend_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
    frame.extend_from_slice(WHY);
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::time::Duration;

    use super::*;

    const STREAMS: u32 = 1_000;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u32, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEADER + length, 0);
        frame
    }

    fn begun(now: Instant) -> FrameMeter {
        let mut meter = FrameMeter::new(now, STREAMS);
        assert!(meter.read(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, || now));
        meter
    }

    #[test]
    fn floods_end_a_connection() {
        let now = Instant::now();
        for (kind, flags, length) in
            [(PING, 0, 8), (4, 0, 0), (2, 0, 5), (3, 0, 4), (0xee, 0, 100), (DATA, 0, 0), (DATA, 8, 200)]
        {
            let mut meter = begun(now);
            let frame = frame(kind, flags, 1, length);
            let within = (0..10_000).take_while(|_| meter.read(&frame, 0, || now)).count();
            assert_eq!(within, 500, "{kind}");
        }
    }

    #[test]
    fn requests_may_be_cancelled_in_one_go() {
        let now = Instant::now();
        let mut meter = begun(now);
        for number in 0..STREAMS {
            assert!(meter.read(&frame(HEADERS, 4, 2 * number + 1, 100), 0, || now));
        }
        for number in 0..STREAMS {
            assert!(meter.read(&frame(3, 0, 2 * number + 1, 4), 0, || now), "{number}");
        }
    }

    #[test]
    fn allowed_frame_rate_never_ends_a_connection() {
        let start = Instant::now();
        let mut meter = begun(start);
        let ping = frame(PING, 0, 0, 8);
        for number in 0..100_000 {
            assert!(meter.read(&ping, 0, || start + Duration::from_millis(number)), "{number}");
        }
        let after = start + Duration::from_secs(100);
        assert!((0..10_000).any(|_| !meter.read(&ping, 0, || after)));
    }

    #[test]
    fn clients_that_work_may_send_control_frames() {
        let now = Instant::now();
        let mut meter = begun(now);
        // A ping, two updates of windows and a cancellation for each request, without any pause.
        for number in 0..100_000 {
            let stream = 2 * number + 1;
            let frames = [
                frame(HEADERS, 4, stream, 100),
                frame(DATA, 1, stream, 20),
                frame(PING, 0, 0, 8),
                frame(WINDOW_UPDATE, 0, 0, 4),
                frame(WINDOW_UPDATE, 0, stream, 4),
                frame(3, 0, stream, 4),
            ];
            assert!(meter.read(&frames.concat(), 0, || now));
        }
        // Updates for every 100 bytes of an answer.
        let update = frame(WINDOW_UPDATE, 0, 1, 4);
        assert!((0..100_000).all(|number| meter.read(&update, 100 * number, || now)));
    }

    #[test]
    fn trailers_and_small_pieces_earn_nothing() {
        let now = Instant::now();
        for piece in [frame(HEADERS, 5, 1, 0), frame(DATA, 0, 1, 1)] {
            let mut meter = begun(now);
            assert!(meter.read(&frame(HEADERS, 4, 1, 10), 0, || now));
            assert!((0..10_000).any(|_| !meter.read(&piece, 0, || now)), "{piece:?}");
        }
    }

    proptest! {
        /// Any division of the bytes into reads gives the same result.
        #[test]
        fn frames_come_in_any_pieces(
            frames in prop::collection::vec((0..12u8, 0..20usize), 0..50),
            cuts in prop::collection::vec(1..30usize, 1..20),
        ) {
            let now = Instant::now();
            let bytes: Vec<u8> = frames.iter().flat_map(|(kind, length)| frame(*kind, 0, 1, *length)).collect();
            let (mut whole, mut pieces) = (begun(now), begun(now));
            prop_assert!(whole.read(&bytes, 0, || now));
            let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                prop_assert!(pieces.read(piece, 0, || now));
                rest = after;
            }
            prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        }
    }
}
