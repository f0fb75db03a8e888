//! Text of clients, cut to the length that responses and logs may carry.

/// Bytes of an error's message at most, which may repeat text of the client. Over gRPC it travels in a header, escaped to
/// three times its length at worst, and clients refuse an answer whose headers have more than 8 KiB; and an error
/// response is not counted as long as it lies there unread.
const MAX_MESSAGE_BYTES: usize = 2048;

/// An error's message as clients get it.
pub(in crate::api) fn shown(message: &str) -> String {
    cut(message, MAX_MESSAGE_BYTES)
}

/// The first bytes of a text, with dots where there are more.
pub(in crate::api) fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    format!("{}...", &text[..text.floor_char_boundary(max_bytes)])
}
