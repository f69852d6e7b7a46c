//! Upstreams that answer with exactly the bytes a test gives them, for what no proper server would ever send.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};

/// What comes back for a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the end.
    BytesThenClose(Vec<u8>),
    /// Silence for as long as the other side stands it.
    Hang,
    /// Silence for a while, then these bytes.
    After(Duration, Vec<u8>),
    /// These bytes, then one more byte now and then without end.
    Trickle(Vec<u8>),
    /// These bytes, then more and more of them without end.
    Endless(Vec<u8>),
}

/// A well-formed answer.
pub fn answer(status: u16, headers: &str, body: &str) -> Answer {
    Answer::Bytes(
        format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()).into(),
    )
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    /// The whole head.
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// Whether the bridge itself asked, of its own accord, whether anybody is there: no call's request, so that tests
    /// need not reckon with it.
    fn is_probe(&self) -> bool {
        self.target.ends_with("/versions/rest") && self.header("x-request-id").is_empty()
    }

    /// The values of a header, in order.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// A scripted server. Ends with the test.
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Upstream {
    /// Answers every request by a script, which gets the request and how many came before it.
    pub async fn start(script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_behind(script, |stream| async { Ok(stream) }).await
    }

    /// The same, with something between the socket and HTTP, TLS for example.
    pub async fn start_behind<S, F>(
        script: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
        wrap: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(script);
        let task = tokio::spawn({
            let (seen, connections) = (Arc::clone(&seen), Arc::clone(&connections));
            async move {
                // Ends with this task.
                let mut tasks = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let (seen, script, stream) = (Arc::clone(&seen), Arc::clone(&script), wrap(stream));
                    let connections = Arc::clone(&connections);
                    tasks.spawn(async move { serve(stream.await?, &seen, &connections, &*script).await });
                }
            }
        });
        Self { address, seen, connections, task: task.abort_handle() }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whole requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Connections on which the requests of calls have come.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    seen: &Mutex<Vec<Seen>>,
    connections: &AtomicUsize,
    script: &(impl Fn(&Seen, usize) -> Answer + ?Sized),
) -> io::Result<()> {
    let mut counted = false;
    loop {
        let request = read(&mut stream).await?;
        if request.is_probe() {
            stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}").await?;
            continue;
        }
        if !std::mem::replace(&mut counted, true) {
            connections.fetch_add(1, Ordering::SeqCst);
        }
        let answer = {
            let mut seen = seen.lock().expect("not poisoned");
            let answer = script(&request, seen.len());
            seen.push(request);
            answer
        };
        match answer {
            Answer::Bytes(bytes) => stream.write_all(&bytes).await?,
            Answer::BytesThenClose(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            // Until the other side gives up.
            Answer::Hang => drop(stream.read(&mut [0]).await),
            Answer::After(delay, bytes) => {
                tokio::time::sleep(delay).await;
                stream.write_all(&bytes).await?;
            }
            Answer::Trickle(bytes) => {
                stream.write_all(&bytes).await?;
                loop {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    stream.write_all(b" ").await?;
                }
            }
            Answer::Endless(bytes) => {
                stream.write_all(&bytes).await?;
                loop {
                    stream.write_all(&[b' '; 16 * 1024]).await?;
                }
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Seen> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).expect("a head of ASCII");
    let mut line = head.split(' ');
    let (method, target) =
        (line.next().unwrap_or_default().to_owned(), line.next().unwrap_or_default().to_owned());
    let mut seen = Seen { method, target, head, body: Vec::new() };
    let length = seen.header("content-length").first().map_or(0, |length| length.parse().expect("a length"));
    seen.body.resize(length, 0);
    stream.read_exact(&mut seen.body).await?;
    Ok(seen)
}
