use std::time::Duration;

/// Where the time of a request went, and in what company it ran.
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
    /// That of a request which ran in pieces: it waited until the first of them ran, and all that was done for it counts. Its
    /// batch is the largest.
    pub(super) fn of_pieces(pieces: impl Iterator<Item = Timing>) -> Self {
        let join = |all: Timing, piece: Timing| Timing {
            queue: all.queue.min(piece.queue),
            input: all.input + piece.input,
            run: all.run + piece.run,
            output: all.output + piece.output,
            rows: all.rows + piece.rows,
            batch_rows: all.batch_rows.max(piece.batch_rows),
        };
        pieces.reduce(join).unwrap_or_default()
    }
}
