//! A network that misbehaves: a TCP proxy between bridge and simulator that does to each connection what its plan says,
//! and keeps the books of every request whose bytes came out of the bridge, whatever became of them afterwards.
//!
//! What leaves the bridge is read and noted at once, also where it is not passed on: "no byte left" can be checked
//! against the books. Only what the bridge writes into a connection that has been cut altogether is seen by nobody.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::within;

/// A loopback address that no other test listens on, so that a door which was shut can be opened again.
const HOST: [u8; 4] = if cfg!(target_os = "linux") { [127, 0, 0, 77] } else { [127, 0, 0, 1] };
/// Between two pieces of a slow direction.
const TICK: Duration = Duration::from_millis(2);
/// What a queue of connections takes that says it takes one; the next SYN is not answered.
const FILLERS: usize = 2;
/// Long enough to connect where there is room.
const FILLING: Duration = Duration::from_millis(20);

/// What happens to everything of one case. The default lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub door: Door,
    /// Nothing passes from the first until the second, in milliseconds from the beginning; then it goes on.
    pub dark: Option<(u64, u64)>,
    /// The connections in the order in which they come; those after them are good.
    pub links: Vec<Link>,
}

/// How the address meets those who connect.
#[derive(Clone, Copy, Debug, Default)]
pub enum Door {
    #[default]
    Open,
    /// Connections are refused for so many milliseconds.
    Refuses(u64),
    /// SYNs get no answer for so many milliseconds.
    Deaf(u64),
}

/// What happens to one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Accepted (the operating system has done that), but nobody is there for so many milliseconds.
    pub late: u64,
    /// From the bridge to Atoti.
    pub request: Flow,
    /// From Atoti to the bridge.
    pub answer: Flow,
}

/// What happens to one direction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Each piece comes so many milliseconds late.
    pub delay: u64,
    /// Bytes a tick, if it is slow.
    pub bytes_per_tick: Option<usize>,
    pub stop: Option<Stop>,
}

/// The end of a direction.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    pub at: Mark,
    pub how: How,
}

#[derive(Clone, Copy, Debug)]
pub enum Mark {
    /// So many bytes have passed, and there is one more.
    Bytes(usize),
    /// So many whole requests or answers have passed. Zero: as soon as the connection is there.
    Messages(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum How {
    /// The connection is closed on both sides, in good order.
    Close,
    /// The connection is reset on both sides.
    Reset,
    /// This direction alone is closed; the other one goes on.
    HalfClose,
    /// This direction swallows everything from here on, and says nothing.
    Swallow,
}

/// A request whose bytes came out of the bridge.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// The head, or as much of it as came.
    pub head: String,
    /// Bytes of all of it.
    pub bytes: usize,
    pub whole: bool,
    /// The status with which Atoti answered it, whether that got through or not.
    pub answered: Option<u16>,
}

impl Plan {
    pub fn is_harmless(&self) -> bool {
        matches!(self.door, Door::Open) && self.dark.is_none() && self.links.is_empty()
    }
}

impl Carried {
    pub fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    pub fn request_id(&self) -> &str {
        header(&self.head, "x-request-id").unwrap_or_default()
    }
}

/// One address in front of one server. Ends with the test.
pub struct Proxy {
    address: SocketAddr,
    orders: mpsc::Sender<(Plan, oneshot::Sender<()>)>,
    books: Books,
    task: AbortHandle,
}

/// By connection, in the order of their coming.
type Books = Arc<Mutex<Vec<Vec<Carried>>>>;

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = open(SocketAddr::from((HOST, 0)), 1024).await;
        let address = listener.local_addr().expect("an address");
        let (orders, receiver) = mpsc::channel(1);
        let books = Books::default();
        let door = Doorkeeper { address, upstream, books: Arc::clone(&books) };
        let task = tokio::spawn(door.keep(listener, receiver)).abort_handle();
        Self { address, orders, books, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection, begins anew with empty books, and from now on does as the plan says.
    pub async fn play(&self, plan: Plan) {
        let (done, finished) = oneshot::channel();
        self.orders.send((plan, done)).await.expect("the doorkeeper lives");
        within("the connections of the case before to end", finished).await.expect("the doorkeeper lives");
    }

    /// Every request so far, also such whose head has not come whole.
    pub fn carried(&self) -> Vec<Carried> {
        lock(&self.books).iter().flatten().cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(books: &Books) -> MutexGuard<'_, Vec<Vec<Carried>>> {
    books.lock().expect("not poisoned")
}

/// Listens; waits for the port where somebody else has just got it.
async fn open(address: SocketAddr, backlog: u32) -> TcpListener {
    let attempt = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(backlog)
    };
    let opened = async {
        loop {
            match attempt() {
                Ok(listener) => return listener,
                Err(_) => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    within("a free port", opened).await
}

struct Doorkeeper {
    address: SocketAddr,
    upstream: SocketAddr,
    books: Books,
}

impl Doorkeeper {
    async fn keep(self, listener: TcpListener, mut orders: mpsc::Receiver<(Plan, oneshot::Sender<()>)>) {
        let mut connections = JoinSet::new();
        let mut plan = Plan::default();
        let mut begun = Instant::now();
        let mut listener = Some(listener);
        // While the door is deaf: what fills its queue.
        let mut deaf: Option<(TcpListener, Vec<TcpStream>)> = None;
        let mut reopen: Option<Instant> = None;
        let mut end = Arc::new(End::default());
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some((next, done)) = order else { return };
                    end.come();
                    while connections.join_next().await.is_some() {}
                    end = Arc::default();
                    (deaf, reopen) = (None, None);
                    lock(&self.books).clear();
                    plan = next;
                    begun = Instant::now();
                    match plan.door {
                        Door::Open if listener.is_none() => listener = Some(open(self.address, 1024).await),
                        Door::Open => {}
                        Door::Refuses(ms) => {
                            listener = None;
                            reopen = Some(begun + Duration::from_millis(ms));
                        }
                        Door::Deaf(ms) => {
                            listener = None;
                            deaf = Some(self.plug_ears().await);
                            reopen = Some(begun + Duration::from_millis(ms));
                        }
                    }
                    let _ = done.send(());
                }
                () = sleep_until(reopen.unwrap_or(begun)), if reopen.is_some() => {
                    (deaf, reopen) = (None, None);
                    listener = Some(open(self.address, 1024).await);
                }
                accepted = accept(listener.as_ref()) => {
                    let Ok((stream, _)) = accepted else { continue };
                    let number = {
                        let mut books = lock(&self.books);
                        books.push(Vec::new());
                        books.len() - 1
                    };
                    let connection = Connection {
                        number,
                        link: plan.links.get(number).copied().unwrap_or_default(),
                        dark: plan.dark.map(|(from, until)| {
                            (begun + Duration::from_millis(from), begun + Duration::from_millis(until))
                        }),
                        upstream: self.upstream,
                        books: Arc::clone(&self.books),
                        end: Arc::clone(&end),
                    };
                    connections.spawn(connection.carry(stream));
                }
                Some(_) = connections.join_next() => {}
            }
            // Held for its sockets alone.
            let _ = &deaf;
        }
    }

    /// A listener whose queue is full: the operating system leaves further SYNs unanswered.
    async fn plug_ears(&self) -> (TcpListener, Vec<TcpStream>) {
        let listener = open(self.address, 1).await;
        let mut fillers = Vec::new();
        // The bridge may have come first: then there is less room.
        while fillers.len() < FILLERS
            && let Ok(Ok(filler)) = timeout(FILLING, TcpStream::connect(self.address)).await
        {
            fillers.push(filler);
        }
        (listener, fillers)
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// The end of a case.
#[derive(Default)]
struct End {
    here: AtomicBool,
    told: Notify,
}

impl End {
    fn come(&self) {
        self.here.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    async fn wait(&self) {
        let told = self.told.notified();
        if !self.here.load(Ordering::SeqCst) {
            told.await;
        }
    }
}

struct Connection {
    number: usize,
    link: Link,
    dark: Option<(Instant, Instant)>,
    upstream: SocketAddr,
    books: Books,
    end: Arc<End>,
}

impl Connection {
    async fn carry(self, bridge: TcpStream) {
        let Ok(atoti) = TcpStream::connect(self.upstream).await else { return };
        let _ = (bridge.set_nodelay(true), atoti.set_nodelay(true));
        let (mut from_bridge, mut to_bridge) = bridge.into_split();
        let (mut from_atoti, mut to_atoti) = atoti.into_split();
        let mut requests = Requests { parts: Parts::default(), number: self.number, books: &self.books };
        let mut answers = Answers { parts: Parts::default(), number: self.number, books: &self.books };
        let (request_queue, mut request) = mpsc::unbounded_channel();
        let (answer_queue, mut answer) = mpsc::unbounded_channel();
        let cut = {
            // For as long as the connection is there, whatever of it is passed on.
            let reading = async {
                let requests = drain(&mut from_bridge, &request_queue, |bytes| requests.note(bytes));
                let answers = drain(&mut from_atoti, &answer_queue, |bytes| answers.note(bytes));
                tokio::join!(requests, answers);
                std::future::pending::<()>().await;
            };
            let writing = async {
                sleep(Duration::from_millis(self.link.late)).await;
                let request = self.pass(&self.link.request, &mut request, &mut to_atoti);
                let answer = self.pass(&self.link.answer, &mut answer, &mut to_bridge);
                tokio::try_join!(request, answer).err()
            };
            tokio::select! {
                () = reading => None,
                cut = writing => cut,
                () = self.end.wait() => None,
            }
        };
        // What had come, but had not been read yet, had left the bridge all the same.
        let mut rest = [0; 4096];
        while let Ok(bytes @ 1..) = from_bridge.try_read(&mut rest) {
            requests.note(&rest[..bytes]);
        }
        if matches!(cut, Some(How::Reset)) {
            let _ = (from_bridge.as_ref().set_zero_linger(), from_atoti.as_ref().set_zero_linger());
            // Else they would say goodbye first.
            to_bridge.forget();
            to_atoti.forget();
        }
    }

    /// Passes on what comes, as the flow says; an error is the end of the whole connection.
    async fn pass(
        &self,
        flow: &Flow,
        queue: &mut mpsc::UnboundedReceiver<Option<Bytes>>,
        to: &mut OwnedWriteHalf,
    ) -> Result<(), How> {
        let mut passed = 0;
        let mut parts = Parts::default();
        if let Some(Stop { at: Mark::Messages(0), how }) = flow.stop {
            return self.stop(how, queue, to).await;
        }
        while let Some(Some(chunk)) = queue.recv().await {
            if flow.delay > 0 {
                sleep(Duration::from_millis(flow.delay)).await;
            }
            for piece in chunk.chunks(flow.bytes_per_tick.unwrap_or(chunk.len()).max(1)) {
                if let Some((from, until)) = self.dark
                    && (from..until).contains(&Instant::now())
                {
                    sleep_until(until).await;
                }
                let (room, reached) = match flow.stop.map(|stop| stop.at) {
                    None => (piece.len(), false),
                    Some(Mark::Bytes(most)) => {
                        (piece.len().min(most - passed.min(most)), passed + piece.len() > most)
                    }
                    Some(Mark::Messages(most)) => match parts.end_of(piece, most) {
                        Some(end) => (end, true),
                        None => (piece.len(), false),
                    },
                };
                // The other side may have gone; then its own end is told to this one.
                if to.write_all(&piece[..room]).await.is_err() {
                    return Err(How::Close);
                }
                passed += room;
                if let Some(Stop { how, .. }) = flow.stop.filter(|_| reached) {
                    return self.stop(how, queue, to).await;
                }
                if flow.bytes_per_tick.is_some() {
                    sleep(TICK).await;
                }
            }
        }
        let _ = to.shutdown().await;
        Ok(())
    }

    async fn stop(
        &self,
        how: How,
        queue: &mut mpsc::UnboundedReceiver<Option<Bytes>>,
        to: &mut OwnedWriteHalf,
    ) -> Result<(), How> {
        match how {
            How::Close | How::Reset => return Err(how),
            How::HalfClose => drop(to.shutdown().await),
            How::Swallow => {}
        }
        // The end of the other side is not told on either.
        while queue.recv().await.is_some() {}
        Ok(())
    }
}

/// Reads everything, notes it, and hands it on; nothing is the end.
async fn drain(
    from: &mut OwnedReadHalf,
    queue: &mpsc::UnboundedSender<Option<Bytes>>,
    mut note: impl FnMut(&[u8]),
) {
    let mut buffer = [0; 4096];
    loop {
        match from.read(&mut buffer).await {
            Ok(bytes @ 1..) => {
                note(&buffer[..bytes]);
                let _ = queue.send(Some(Bytes::copy_from_slice(&buffer[..bytes])));
            }
            Ok(0) | Err(_) => {
                let _ = queue.send(None);
                return;
            }
        }
    }
}

/// Where messages of HTTP/1.1 begin and end. Their lengths are in their heads: nobody here sends chunks.
#[derive(Default)]
struct Parts {
    head: Vec<u8>,
    /// Of the body, once the head is there.
    left: Option<usize>,
    messages: usize,
}

/// What a byte was.
enum Part {
    Head,
    /// Perhaps of a head that is now whole.
    Within {
        head: bool,
    },
    /// The last one of its message.
    Last {
        head: bool,
    },
}

impl Parts {
    fn feed(&mut self, byte: u8) -> Part {
        if let Some(left) = self.left {
            self.left = Some(left - 1);
            return self.ended(false);
        }
        self.head.push(byte);
        if !self.head.ends_with(b"\r\n\r\n") {
            return Part::Head;
        }
        let head = String::from_utf8_lossy(&self.head);
        assert!(header(&head, "transfer-encoding").is_none(), "chunks: {head}");
        self.left = Some(header(&head, "content-length").map_or(0, |text| text.parse().expect("a length")));
        self.ended(true)
    }

    fn ended(&mut self, head: bool) -> Part {
        if self.left != Some(0) {
            return Part::Within { head };
        }
        self.left = None;
        self.head.clear();
        self.messages += 1;
        Part::Last { head }
    }

    /// How many of these bytes belong to the first so many messages, if the last of those ends in them.
    fn end_of(&mut self, bytes: &[u8], messages: usize) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            self.feed(*byte);
            if self.messages == messages {
                return Some(index + 1);
            }
        }
        None
    }
}

/// The books of what comes from the bridge.
struct Requests<'a> {
    parts: Parts,
    number: usize,
    books: &'a Books,
}

impl Requests<'_> {
    fn note(&mut self, bytes: &[u8]) {
        let mut books = lock(self.books);
        // Books of another case: the connection is about to end.
        let Some(carried) = books.get_mut(self.number) else { return };
        for byte in bytes {
            if carried.last().is_none_or(|last| last.whole) {
                carried.push(Carried::default());
            }
            let last = carried.last_mut().expect("just seen to");
            last.bytes += 1;
            match self.parts.feed(*byte) {
                Part::Head | Part::Within { head: true } | Part::Last { head: true } => {
                    last.head.push(char::from(*byte));
                }
                Part::Within { head: false } | Part::Last { head: false } => {}
            }
            last.whole = self.parts.left.is_none() && self.parts.head.is_empty();
        }
    }
}

/// And of what Atoti says to it.
struct Answers<'a> {
    parts: Parts,
    number: usize,
    books: &'a Books,
}

impl Answers<'_> {
    fn note(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let index = self.parts.messages;
            self.parts.feed(*byte);
            if self.parts.head.len() != "HTTP/1.1 204".len() {
                continue;
            }
            let status = std::str::from_utf8(&self.parts.head[9..]).ok().and_then(|text| text.parse().ok());
            let mut books = lock(self.books);
            if let Some(answered) = books.get_mut(self.number).and_then(|carried| carried.get_mut(index)) {
                answered.answered = status;
            }
        }
    }
}

/// A header's value.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
