//! The sockets: TCP or Unix, and what is known of whoever connects.

use std::{
    fs::Permissions,
    io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::config::Listen;

/// Connections that wait in the kernel until they are accepted: as many as may be open by default. One more is dropped
/// without a word, and its client tries again after one, three and seven seconds. The usual 128 are passed by a proxy
/// that connects for every call at once, when another bridge has gone.
const BACKLOG: u32 = 1024;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; its file goes with it.
    Unix(UnixListener, SocketFile),
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A stream that no thread waits for.
pub(super) enum Detached {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Takes it from the thread that waits for its bytes.
    pub(super) fn detach(self) -> io::Result<Detached> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Self::Unix(stream) => stream.into_std().map(Detached::Unix),
        }
    }

    pub(super) fn into_bytes(self) -> Either<TcpStream, UnixStream> {
        match self {
            Self::Tcp(stream) => Either::Left(stream),
            Self::Unix(stream) => Either::Right(stream),
        }
    }
}

impl Detached {
    /// From now on this thread waits for its bytes.
    pub(super) fn attach(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Self::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }
}

impl Listener {
    /// Binds a socket.
    ///
    /// The folder of a Unix socket decides who may connect. A file that a dead process has left at its path is
    /// replaced; one that is in use, or is no socket, is not.
    ///
    /// # Errors
    ///
    /// Why it cannot be bound.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            Listen::Unix(path) => {
                remove_left_over(path).await?;
                let listener = UnixListener::bind(path)?;
                // To connect is to write. Whoever may enter the folder may connect, whatever the umask says.
                std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// Where it listens, with the port that was picked.
    ///
    /// # Errors
    ///
    /// When the socket is gone.
    pub fn local(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            Self::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without it the answer's second write waits for the acknowledgement of the first: 40 ms. It only
                // costs speed when it fails.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The connections of the run before may linger on the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The file of a Unix socket; removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn remove_left_over(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn answers_are_not_held_back_by_nagles_algorithm() {
        let listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = Listener::bind(&listen).await.expect("a port");
        let Ok(Listen::Tcp(address)) = listener.local() else { panic!("a TCP address") };
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (Ok(_client), Ok((Stream::Tcp(stream), Some(_)))) = (client, accepted) else {
            panic!("a TCP stream")
        };
        assert!(stream.nodelay().expect("a socket"));
    }

    #[tokio::test]
    async fn hundreds_may_come_at_once() {
        let listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = Listener::bind(&listen).await.expect("a port");
        let Ok(Listen::Tcp(address)) = listener.local() else { panic!("a TCP address") };
        let mut waiting = Vec::new();
        for n in 0..400 {
            let connected = timeout(Duration::from_secs(10), TcpStream::connect(address)).await;
            waiting.push(connected.unwrap_or_else(|_| panic!("no room for number {n}")).expect("connected"));
        }
    }
}
