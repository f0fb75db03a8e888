//! One HTTP/1.1 connection, byte by byte: what happens to it is visible, and nothing is retried.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

/// A connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// An answer on it.
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    /// The server will close the connection.
    pub closes: bool,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Connection::over(TcpStream::connect(address)?))
    }

    pub fn over(stream: TcpStream) -> Self {
        Connection { stream: BufReader::new(stream) }
    }

    pub fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Reply> {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        self.stream.get_mut().write_all(&request)?;
        self.reply()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next answer.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let cut_off = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended before an answer came");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(cut_off());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_ascii_lowercase()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut_off)?;
        let header = |name: &str| lines.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length = header("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Reply { status, body, closes: header("connection:") == Some("close") })
    }
}
