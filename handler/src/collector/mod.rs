//! The embedded dashboard: takes uploads in the dialects of Breakpad and Sentry, keeps those that hold a dump, and shows them.
//!
//! It serves this machine unless told otherwise. What it receives was written by a program that crashed, or by somebody who
//! poses as one: bounded on the way in, checked before it is kept, escaped when it is shown.

mod crashes;
mod guard;
mod header_value;
mod intake;
mod limits;
mod listener;
mod meta;
mod multipart;
mod page;
mod receive;
mod refusal;
mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

pub use crashes::StoreError;
pub use limits::Limits;

use crashes::Crashes;
use listener::Capped;

/// Time for what is in progress when the collector is told to stop.
const STOP_TIME: Duration = Duration::from_secs(5);

/// What a collector serves, where, and to whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to listen on; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The folder that holds the crashes. Made if it is not there.
    pub store: PathBuf,
    /// Serve other machines too. There is no login: whoever reaches the address reads every crash.
    pub allow_remote: bool,
    /// What uploads may cost.
    pub limits: Limits,
}

/// Why a collector can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its address can be reached from other machines, which nobody allowed.
    #[error(
        "{0} can be reached from other machines, and whoever reaches the collector reads every crash; \
         listen on 127.0.0.1, or allow it with --allow-remote"
    )]
    Remote(SocketAddr),
    /// The port is taken, or may not be.
    #[error("can't listen on {address}: {}", listen_reason(.source))]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no threads.
    #[error("can't start the collector: {0}")]
    System(io::Error),
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; choose another, or 0 for any that is free".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; choose a port above 1023".to_owned(),
        _ => error.to_string(),
    }
}

/// What all requests share.
#[derive(Debug)]
struct Shared {
    crashes: Crashes,
    limits: Limits,
    checks: Semaphore,
    remote: bool,
}

/// A collector at work, on threads of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a collector. When this returns, it answers.
pub fn start(config: Config) -> Result<Running, StartError> {
    let Config { listen, store, allow_remote, limits } = config;
    if !allow_remote && !listen.ip().to_canonical().is_loopback() {
        return Err(StartError::Remote(listen));
    }
    // The port first: a store is not touched by a collector that can't serve it.
    let bind = || {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (listener, address) = bind().map_err(|source| StartError::Listen { address: listen, source })?;
    let crashes = Crashes::open(&store)?;
    let checks = Semaphore::new(limits.checks);
    let shared = Arc::new(Shared { crashes, limits, checks, remote: allow_remote });

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("collector")
        .enable_all()
        .build()
        .map_err(StartError::System)?;
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener).map_err(StartError::System)?
    };
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("collector".to_owned())
        .spawn(move || serve(runtime, listener, shared, stopped))
        .map_err(StartError::System)?;
    Ok(Running { address, stop: Some(stop), thread: Some(thread) })
}

fn serve(runtime: Runtime, listener: tokio::net::TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let listener = Capped::new(listener, shared.limits);
    let router = routes::router(shared);
    runtime.block_on(async move {
        let (stopping, told) = oneshot::channel();
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            // An error is a `Running` that is gone: just as well.
            let _ = stopped.await;
            let _ = stopping.send(());
        });
        let out_of_time = async move {
            let _ = told.await;
            tokio::time::sleep(STOP_TIME).await;
        };
        tokio::select! {
            result = async { server.await } => {
                if let Err(error) = result {
                    tracing::warn!("the collector ended: {error}");
                }
            }
            () = out_of_time => tracing::warn!("some uploads were not complete when the collector stopped"),
        }
    });
    // Threads that still write an upload find its connection gone, and remove what there is of it.
    runtime.shutdown_timeout(STOP_TIME);
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The page that lists crashes.
    pub fn url(&self) -> String {
        format!("http://{}/", self.reachable())
    }

    /// The page of one crash.
    pub fn crash_url(&self, id: &Uuid) -> String {
        format!("http://{}/crash/{}", self.reachable(), id.hyphenated())
    }

    /// Where to send crashes.
    pub fn submit_url(&self) -> String {
        format!("http://{}/submit", self.reachable())
    }

    /// Listening on every address includes the loopback one, and nobody can open "0.0.0.0".
    fn reachable(&self) -> SocketAddr {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        address
    }

    /// Takes no more requests, lets those in progress end for a few seconds, and returns when everything is closed.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error is a server that ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
