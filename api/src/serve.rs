//! Connections: accepted, held to their limits, and ended in order.
//!
//! A client that is slow in telling what it wants occupies a connection for a bounded time: [`Limits::headers`] for the
//! head of a request, `middleware::limit` for all of it up to the answer's head. The answer itself, which may be a
//! live log, takes as long as it takes.

use std::{convert::Infallible, io, pin::pin, time::Duration};

use axum::{extract::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Service, ServiceExt};

use crate::auth::Peer;

/// How long clients and requests may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From a connection's begin, or the end of the answer before, to the end of a request's head.
    pub(crate) headers: Duration,
    /// What running requests have after a shutdown began.
    pub(crate) drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { headers: Duration::from_secs(30), drain: Duration::from_secs(10) }
    }
}

/// Answers requests by `service` until `shutdown`, and then those that run.
pub(crate) async fn serve<S>(listener: TcpListener, service: S, limits: Limits, shutdown: CancellationToken)
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let connections = TaskTracker::new();
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(limits.headers);
    loop {
        let (stream, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let service = service.clone().map_request(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(peer);
            request
        });
        let connection = protocol.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let shutdown = shutdown.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke off");
            }
        });
    }
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait()).await.is_err() {
        tracing::warn!("requests were cut off: they did not end within {:?} of the shutdown", limits.drain);
    }
}

/// The next connection. Out of files or memory it waits for others to end.
async fn accept(listener: &TcpListener) -> (TcpStream, Peer) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return (stream, Peer(peer));
            }
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use axum::{Router, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::Notify,
        task::JoinHandle,
    };

    use super::*;

    struct Server {
        address: SocketAddr,
        shutdown: CancellationToken,
        served: JoinHandle<()>,
        /// `/slow` was asked for.
        begun: Arc<Notify>,
        /// `/slow` may answer.
        go: Arc<Notify>,
    }

    async fn started(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, goes) = (Arc::clone(&begun), Arc::clone(&go));
        let slow = get(async move || {
            begins.notify_one();
            goes.notified().await;
            "slow"
        });
        let router = Router::new().route("/", get(async || "hello")).route("/slow", slow);
        let served = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        Server { address, shutdown, served, begun, go }
    }

    async fn asked(server: &Server, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// All that comes until the connection ends.
    async fn rest(mut stream: TcpStream) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        // A reset ends it as well.
        let _ = read.expect("the connection ends");
        String::from_utf8(rest).unwrap()
    }

    #[tokio::test]
    async fn who_never_ends_a_requests_head_is_hung_up_on() {
        let server = started(Limits { headers: Duration::from_millis(50), ..Limits::default() }).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await.unwrap();
        let said = rest(stream).await;
        assert!(!said.contains(" 200 "), "{said}");
    }

    #[tokio::test]
    async fn an_answer_may_take_longer_than_a_head() {
        let server = started(Limits { headers: Duration::from_millis(50), ..Limits::default() }).await;
        let mut stream = asked(&server, "/slow").await;
        server.begun.notified().await;
        // Another one is hung up on meanwhile, so that the time is over.
        rest(TcpStream::connect(server.address).await.unwrap()).await;
        server.go.notify_one();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_shutdown_lets_a_running_request_end_and_takes_no_other() {
        let server = started(Limits::default()).await;
        let running = asked(&server, "/slow").await;
        server.begun.notified().await;
        let idle = asked(&server, "/").await;
        server.shutdown.cancel();
        server.go.notify_one();
        server.served.await.unwrap();
        assert!(rest(running).await.ends_with("slow"));
        rest(idle).await;
        assert!(TcpStream::connect(server.address).await.is_err());
    }

    #[tokio::test]
    async fn a_shutdown_waits_no_longer_than_its_limit() {
        let server = started(Limits { drain: Duration::from_millis(10), ..Limits::default() }).await;
        let _running = asked(&server, "/slow").await;
        server.begun.notified().await;
        server.shutdown.cancel();
        server.served.await.unwrap();
    }
}
