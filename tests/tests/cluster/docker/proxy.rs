//! A way to an engine that can be cut, as when the engine is away.

use std::{fs, path::PathBuf};

use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Listens at a socket of its own and hands on what comes to the engine.
pub(super) struct Proxy {
    socket: PathBuf,
    open: Option<DropGuard>,
}

impl Proxy {
    /// To the engine of `./dev cluster up`.
    pub(super) fn to_engine(socket: PathBuf) -> Self {
        let mut proxy = Self { socket, open: None };
        proxy.mend();
        proxy
    }

    /// The engine's address for whoever goes by here.
    pub(super) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Ends all connections and takes no new ones.
    pub(super) fn cut(&mut self) {
        self.open = None;
        fs::remove_file(&self.socket).unwrap();
    }

    pub(super) fn mend(&mut self) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let open = CancellationToken::new();
        self.open = Some(open.clone().drop_guard());
        let engine = super::engine::host().trim_start_matches("unix://").to_owned();
        tokio::spawn(async move { open.run_until_cancelled(hand_on(listener, engine)).await });
    }
}

async fn hand_on(listener: UnixListener, engine: String) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let engine = engine.clone();
        connections.spawn(async move {
            let mut server = UnixStream::connect(engine).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}
