//! Messages on a socket, each behind its length (32 bits, little-endian).

use prost::Message;
use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

/// Bytes of a message at most. The largest are signatures with the labels of many classes.
const MAX_MESSAGE: usize = 64 << 20;

/// Bytes that are read with one call.
const READ_SIZE: usize = 64 << 10;

const PREFIX: usize = size_of::<u32>();

/// A socket with the bytes that have come and are no whole message yet.
pub(super) struct MessageStream {
    socket: UnixStream,
    received: Vec<u8>,
    encoded: Vec<u8>,
}

impl MessageStream {
    pub(super) fn new(socket: UnixStream) -> Self {
        MessageStream { socket, received: Vec::new(), encoded: Vec::new() }
    }

    pub(super) fn send(&mut self, message: &impl Message) -> io::Result<()> {
        self.encoded.clear();
        let length = message.encoded_len();
        let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_MESSAGE);
        let prefix = prefix.ok_or_else(|| wrong("a message is too long"))?;
        self.encoded.extend_from_slice(&prefix.to_le_bytes());
        message.encode(&mut self.encoded).map_err(|_| wrong("a message can't be encoded"))?;
        self.socket.write_all(&self.encoded)
    }

    /// The next message. Where the socket has a timeout for reading and it passes, `Ok(None)`: what has come so far is kept.
    ///
    /// # Errors
    /// The other end is closed (`UnexpectedEof`), or what it sent is no message.
    pub(super) fn receive<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            let start = self.received.len();
            self.received.resize(start + READ_SIZE, 0);
            let read = self.socket.read(&mut self.received[start..]);
            self.received.truncate(start + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes a message out of what has come, if a whole one has.
    fn whole<M: Message + Default>(&mut self) -> io::Result<Option<M>> {
        let Some((prefix, rest)) = self.received.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length > MAX_MESSAGE {
            return Err(wrong("a message is too long"));
        }
        let Some(encoded) = rest.get(..length) else { return Ok(None) };
        let message = M::decode(encoded).map_err(|_| wrong("it is no message"))?;
        self.received.drain(..PREFIX + length);
        Ok(Some(message))
    }
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::{
        super::messages::{Area, ReplyMessage, RequestBody, RequestMessage},
        *,
    };
    use std::time::Duration;

    fn pair() -> (MessageStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (MessageStream::new(ours), theirs)
    }

    #[test]
    fn messages_arrive_whole_from_any_pieces() {
        let (mut receiver, mut raw) = pair();
        receiver.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let sent = RequestMessage::from(RequestBody::Room(Area { offset: 1 << 40, size: 77 }));
        let mut encoded = Vec::new();
        for _ in 0..2 {
            encoded.extend_from_slice(&(sent.encoded_len() as u32).to_le_bytes());
            sent.encode(&mut encoded).unwrap();
        }
        for byte in &encoded[..encoded.len() / 2 - 1] {
            raw.write_all(&[*byte]).unwrap();
            assert_eq!(receiver.receive::<RequestMessage>().unwrap(), None);
        }
        raw.write_all(&encoded[encoded.len() / 2 - 1..]).unwrap();
        assert_eq!(receiver.receive::<RequestMessage>().unwrap().as_ref(), Some(&sent));
        assert_eq!(receiver.receive::<RequestMessage>().unwrap().as_ref(), Some(&sent));
        drop(raw);
        assert_eq!(receiver.receive::<RequestMessage>().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn malformed_message_is_rejected() {
        for bytes in [&[0xff; 4][..], &[2, 0, 0, 0, 0xff, 0xff]] {
            let (mut receiver, mut raw) = pair();
            raw.write_all(bytes).unwrap();
            assert_eq!(receiver.receive::<ReplyMessage>().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
