//! A TCP connection to a server that can be cut.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes connections on to a server, or none.
#[derive(Debug)]
pub struct Forwarder {
    /// Where it listens.
    pub address: SocketAddr,
    on: watch::Sender<bool>,
}

impl Forwarder {
    /// One of this machine that passes connections on to `server`, `HOST:PORT`, for as long as the caller's runtime lives.
    pub async fn start(server: String) -> Self {
        Self::start_at("127.0.0.1", server).await
    }

    /// The same at another address of this machine.
    pub async fn start_at(host: &str, server: String) -> Self {
        let listener = TcpListener::bind((host, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let (on, switch) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), switch.clone()));
            }
        });
        Self { address, on }
    }

    /// Cuts all connections and every one that comes.
    pub fn cut(&self) {
        self.on.send_replace(false);
    }

    /// Passes connections on again.
    pub fn mend(&self) {
        self.on.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, server: String, mut switch: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = switch.wait_for(|on| !on) => {}
        () = async {
            if let Ok(mut server) = TcpStream::connect(server).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        } => {}
    }
}
