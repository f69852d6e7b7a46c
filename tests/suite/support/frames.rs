//! HTTP/2 frame by frame, for what no proper client would ever send.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::within;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame that came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a reset or a GOAWAY.
    pub fn code(&self) -> u32 {
        let start = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[start..start + 4].try_into().expect("four bytes"))
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Settings.
pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let entry = |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &entries.iter().flat_map(entry).collect::<Vec<_>>())
}

/// More room for a stream, or for the connection.
pub fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// The header block of a call, in literals that are not indexed.
pub fn headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let call = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "bridge"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    block(&[&call[..], more].concat())
}

/// Any header block.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(0, name.as_bytes(), value.as_bytes())).collect()
}

/// One field with its name spelled out, of any bytes: 0 is not indexed, 0x40 is.
pub fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(name.len()), name, &length(value.len()), value].concat()
}

/// HPACK's integer, with seven bits in the first byte.
fn length(length: usize) -> Vec<u8> {
    let Some(mut rest) = length.checked_sub(127) else {
        return vec![u8::try_from(length).expect("less than 127")];
    };
    let mut bytes = vec![127];
    loop {
        let seven = u8::try_from(rest & 127).expect("seven bits");
        rest >>= 7;
        if rest == 0 {
            bytes.push(seven);
            return bytes;
        }
        bytes.push(seven | 128);
    }
}

/// A connection that does nothing by itself: acknowledges nothing, answers nothing.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    /// Connects, and says nothing.
    pub async fn silent(address: SocketAddr) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream }
    }

    /// Connects with as little room for what comes back as there can be, and says nothing.
    pub async fn narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let stream = within("a connection", socket.connect(address)).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream }
    }

    /// Connects, and introduces itself with empty settings.
    pub async fn greeted(address: SocketAddr) -> Self {
        let mut raw = Self::silent(address).await;
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    /// The next frame; nothing at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within("a frame", self.stream.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        within("the rest of a frame", self.stream.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Makes a call on a stream.
    pub async fn call(&mut self, stream: u32, path: &str, message: &[u8]) {
        let head = frame(HEADERS, END_HEADERS, stream, &headers(path, &[]));
        self.send(&[head, frame(DATA, END_STREAM, stream, message)].concat()).await;
    }

    /// The next frame of a stream, others passed over.
    pub async fn next_on(&mut self, stream: u32) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.stream == stream && frame.kind != WINDOW_UPDATE {
                return Some(frame);
            }
        }
    }

    /// Whether the connection still answers.
    pub async fn lives(&mut self) -> bool {
        // Never sent as a ping's content by the bridge itself.
        let asked = [0x5a; 8];
        if self.stream.write_all(&frame(PING, 0, 0, &asked)).await.is_err() {
            return false;
        }
        while let Some(pong) = self.next_of(PING).await {
            if pong.flags == ACK && pong.payload == asked {
                return true;
            }
        }
        false
    }

    /// Why the connection ended: the code of its GOAWAY, or nothing when it just closed.
    pub async fn end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }

    /// The next frame of a kind, others passed over.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}
