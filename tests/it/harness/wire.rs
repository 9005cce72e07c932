//! A TCP connection and what has come on it but is not yet asked for.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{pair, within};

/// A TCP connection that is read piece by piece.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects; `receive_buffer` bounds what the kernel takes in while nobody reads.
    pub(crate) async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("sockets are not used up");
        if let Some(bytes) = receive_buffer {
            socket
                .set_recv_buffer_size(bytes)
                .expect("any size is legal");
        }
        let connected = within("a TCP connection", socket.connect(address)).await;
        let stream = connected.expect("the broker listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Self::from_stream(stream)
    }

    /// A connection on which nothing has come yet.
    pub(crate) fn from_stream(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Takes in what has come already, and does not wait for more.
    pub(crate) fn take_in(&mut self) {
        self.received.reserve(64 * 1024);
        while matches!(self.stream.try_read_buf(&mut self.received), Ok(1..)) {}
    }

    /// Sends all of it, once who is there knows what was acked elsewhere.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.level().await;
        self.write(bytes).await;
    }

    /// Sends all of it at once.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("room to send", self.stream.write_all(bytes))
            .await
            .expect("the broker still reads");
    }

    /// Sends as much as is taken: for input that the broker may refuse before its end.
    pub(crate) async fn offer(&mut self, bytes: &[u8]) {
        self.level().await;
        within("room to send", self.stream.write_all(bytes))
            .await
            .ok();
    }

    async fn level(&self) {
        if let Ok(there) = self.stream.peer_addr() {
            pair::level(there).await;
        }
    }

    /// The next `count` bytes; `None` if the connection ends first.
    pub(crate) async fn take(&mut self, count: usize, what: &str) -> Option<Vec<u8>> {
        while self.received.len() < count {
            if !self.read_more(what).await {
                return None;
            }
        }
        Some(self.received.drain(..count).collect())
    }

    /// An HTTP head with its empty line; `None` if the connection ends first.
    pub(crate) async fn take_head(&mut self, what: &str) -> Option<String> {
        self.take_until(b"\r\n\r\n", what).await
    }

    /// A line with its end; `None` if the connection ends first.
    pub(crate) async fn take_line(&mut self, what: &str) -> Option<String> {
        self.take_until(b"\r\n", what).await
    }

    /// Text up to its end, with it; `None` if the connection ends first.
    pub(crate) async fn take_until(&mut self, end: &[u8], what: &str) -> Option<String> {
        loop {
            let at = self
                .received
                .windows(end.len())
                .position(|here| here == end);
            if let Some(at) = at {
                let text = self.received.drain(..at + end.len()).collect();
                return Some(String::from_utf8(text).expect("text is UTF-8"));
            }
            if !self.read_more(what).await {
                return None;
            }
        }
    }

    /// Closes the sending side only.
    pub(crate) async fn shut_down(&mut self) {
        let shut = within("the half-close", self.stream.shutdown()).await;
        shut.expect("the connection is open");
    }

    /// Waits for the end of the connection and says what came before it.
    pub(crate) async fn rest(&mut self, what: &str) -> Vec<u8> {
        while self.read_more(what).await {}
        std::mem::take(&mut self.received)
    }

    /// False at the end. A reset is an end too: a server that closes with unread input behind it cannot avoid one.
    async fn read_more(&mut self, what: &str) -> bool {
        self.received.reserve(16 * 1024);
        let read = within(what, self.stream.read_buf(&mut self.received)).await;
        matches!(read, Ok(count) if count > 0)
    }
}
