//! Sockets, connections, and how a server begins and ends.

use std::fmt::Display;
use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::http::guard::{Arrival, Guard};
use crate::http::io::{Clock, Socket};
use crate::models::host::Host;
use crate::models::keeper::Keeper;
use crate::models::library::Library;
use crate::models::state::Ready;
use crate::options::{Address, ServerOptions};
use crate::random;
use crate::serve::{Shared, answer};

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address that cannot be listened at.
    #[error("cannot listen at {address}: {error}")]
    Bind {
        /// The address.
        address: String,
        /// What the system says.
        error: io::Error,
    },
    /// Others could reach it, and nobody would be asked for a key.
    #[error("{address} can be reached from other machines, and anybody there could use the models: no API key is set")]
    Open {
        /// The address.
        address: IpAddr,
    },
    /// The system gives no thread or no events.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Ends a server; any thread may do so.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// No more connections are accepted; texts go on for a bounded time.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// A server that listens. It answers when it [runs](Server::run).
pub struct Server {
    runtime: Runtime,
    listeners: Vec<Listener>,
    options: ServerOptions,
    stop: watch::Sender<bool>,
}

enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, PathBuf),
}

impl Server {
    /// Listens at all addresses.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn bind(options: ServerOptions) -> Result<Server, ServeError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().max_blocking_threads(2).build()?;
        let entered = runtime.enter();
        let listeners = options.addresses.iter().map(|address| listen(address, &options)).collect::<Result<_, _>>()?;
        drop(entered);
        Ok(Server { runtime, listeners, options, stop: watch::Sender::new(false) })
    }

    /// Where it listens over TCP.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let address = |listener: &Listener| match listener {
            Listener::Tcp(tcp) => tcp.local_addr().ok(),
            #[cfg(unix)]
            Listener::Unix(..) => None,
        };
        self.listeners.iter().filter_map(address).collect()
    }

    /// By which it can be ended.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    /// Answers until it is stopped. Until the model that `library` names first is loaded, requests hear that.
    ///
    /// # Errors
    /// What keeps that model from being loaded, and threads from starting.
    pub fn run<E>(self, library: Library<E>) -> Result<(), E>
    where
        E: From<io::Error> + Display + Send + 'static,
    {
        let Server { runtime, listeners, options, stop } = self;
        let guard =
            Guard { keys: options.keys.clone(), hosts: options.hosts.clone(), origins: options.origins.clone() };
        let host = Arc::new(Host::new(&library, &options));
        let keeper = Keeper::new(host.clone(), library);
        let failed = Arc::new(Mutex::new(None));
        let keep = {
            let (failed, stop) = (failed.clone(), stop.clone());
            move || {
                if let Err(error) = keeper.run() {
                    *failed.lock().expect("nothing panics with it") = Some(error);
                    stop.send_replace(true);
                }
            }
        };
        let keeper = std::thread::Builder::new().name("quipu-models".into()).spawn(keep)?;
        let shared = Arc::new(Shared { guard, host: host.clone(), started: random::now() });
        runtime.block_on(serve(listeners, &options, shared, &stop));
        // What is still open is dropped with the runtime, and its texts are cancelled.
        runtime.shutdown_timeout(Duration::from_secs(1));
        let (models, loading) = host.close();
        // Their threads may have something to write down first.
        models.into_iter().for_each(Ready::end);
        if !loading {
            let _ = keeper.join();
        }
        match failed.lock().expect("nothing panics with it").take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn listen(address: &Address, options: &ServerOptions) -> Result<Listener, ServeError> {
    match address {
        Address::Tcp(ip, port) => {
            if !ip.is_loopback() && options.keys.is_empty() && !options.insecure {
                return Err(ServeError::Open { address: *ip });
            }
            let address = SocketAddr::new(*ip, *port);
            let failed = |error| ServeError::Bind { address: address.to_string(), error };
            let bind = || {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            };
            Ok(Listener::Tcp(bind().map_err(failed)?))
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            let failed = |error| ServeError::Bind { address: path.display().to_string(), error };
            // A socket that a server left behind which is gone: nobody answers there. (Nor does anybody at a file.)
            if is_socket(path)
                && std::os::unix::net::UnixStream::connect(path)
                    .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
            {
                let _ = std::fs::remove_file(path);
            }
            Ok(Listener::Unix(UnixListener::bind(path).map_err(failed)?, path.clone()))
        }
        #[cfg(not(unix))]
        Address::Unix(path) => {
            let error = io::ErrorKind::Unsupported.into();
            Err(ServeError::Bind { address: path.display().to_string(), error })
        }
    }
}

/// Whether a socket has this name, and not a file, or a link to one.
#[cfg(unix)]
fn is_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Accepts connections until `stop`, then waits for those that are open.
async fn serve(listeners: Vec<Listener>, options: &ServerOptions, shared: Arc<Shared>, stop: &watch::Sender<bool>) {
    let most = options.limits.connections;
    let connections = Arc::new(Semaphore::new(most));
    #[cfg(unix)]
    let mut sockets = Vec::new();
    let mut accepting = Vec::new();
    for listener in listeners {
        #[cfg(unix)]
        if let Listener::Unix(_, path) = &listener {
            sockets.push(path.clone());
        }
        accepting.push(tokio::spawn(accept(listener, shared.clone(), connections.clone(), stop.subscribe())));
    }
    let _ = stop.subscribe().wait_for(|stop| *stop).await;
    accepting.iter().for_each(tokio::task::JoinHandle::abort);
    #[cfg(unix)]
    sockets.iter().filter(|path: &&PathBuf| is_socket(path)).for_each(|path| {
        let _ = std::fs::remove_file(path);
    });
    let texts = shared.host.open_texts();
    if texts > 0 {
        (options.tell)(&format!(
            "stopping: {texts} texts are being written and may go on for {} s; another signal ends them",
            options.drain.as_secs()
        ));
    }
    let all = u32::try_from(most).unwrap_or(u32::MAX);
    if timeout(options.drain, connections.acquire_many(all)).await.is_err() {
        let cut = shared.host.open_texts();
        (options.tell)(&format!("stopped; {cut} texts were cut off"));
    } else {
        (options.tell)("stopped");
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, connections: Arc<Semaphore>, stop: watch::Receiver<bool>) {
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let accepted = match &listener {
            Listener::Tcp(tcp) => tcp.accept().await.map(|(socket, _)| {
                let _ = socket.set_nodelay(true);
                let arrival = socket.local_addr().map(|address| Arrival::Tcp(address.ip()));
                if let Ok(arrival) = arrival {
                    converse(socket, arrival, shared.clone(), stop.clone(), permit);
                }
            }),
            #[cfg(unix)]
            Listener::Unix(unix, _) => unix
                .accept()
                .await
                .map(|(socket, _)| converse(socket, Arrival::Unix, shared.clone(), stop.clone(), permit)),
        };
        if accepted.is_err() {
            // Too many open files, or a client that was gone at once: others will come.
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Answers what comes over one connection.
fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: S,
    arrival: Arrival,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) {
    let limits = &shared.host.limits;
    let mut http = http1::Builder::new();
    http.timer(Clock)
        // Names are the same in any case, but not to all who read them.
        .title_case_headers(true)
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.header_fields);
    let socket = Socket::new(socket, limits.write_time);
    let service = service_fn(move |request| {
        let answering = answer(shared.clone(), arrival, request);
        async move { Ok::<_, std::convert::Infallible>(answering.await) }
    });
    tokio::spawn(async move {
        let mut connection = Box::pin(http.serve_connection(socket, service));
        let mut stopping = Box::pin(stop.wait_for(|stop| *stop));
        let mut asked = false;
        std::future::poll_fn(|context| {
            if !asked && stopping.as_mut().poll(context).is_ready() {
                asked = true;
                connection.as_mut().graceful_shutdown();
            }
            // What is wrong with a connection is its client's business.
            connection.as_mut().poll(context).map(|_| ())
        })
        .await;
        drop(permit);
    });
}
