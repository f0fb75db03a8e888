//! Time that a request took, by phase.

use std::time::Duration;

/// Time of a request by phase, and the rows of its batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Waiting for an instance.
    pub queue: Duration,
    /// Stacking the rows of its batch.
    pub input: Duration,
    /// Its batch in ONNX Runtime.
    pub run: Duration,
    /// Cutting the batch's outputs into answers.
    pub output: Duration,
    /// Rows of the request.
    pub rows: usize,
    /// Rows of the batch that it ran in.
    pub batch_rows: usize,
}

impl Timing {
    /// The timing of a request which ran in pieces: it waited until the first of them ran, and the work of all counts. Its batch
    /// is the largest.
    pub(super) fn of_pieces(pieces: impl Iterator<Item = Timing>) -> Self {
        let add = |all: Timing, piece: Timing| Timing {
            queue: all.queue.min(piece.queue),
            input: all.input + piece.input,
            run: all.run + piece.run,
            output: all.output + piece.output,
            rows: all.rows + piece.rows,
            batch_rows: all.batch_rows.max(piece.batch_rows),
        };
        pieces.reduce(add).unwrap_or_default()
    }
}
