//! Ports for servers that go away and come back at their address.

use std::net::TcpListener;

/// Below those that systems give to whoever asks for any, and away from node ports: while a server is down nobody else
/// comes by its port, not even as the near end of a connection.
const OURS: std::ops::Range<u16> = 10_240..30_000;

/// Listens at a port of `host` that nobody has.
///
/// # Panics
/// When there is none.
pub fn listen(host: &str) -> TcpListener {
    let listener = (0..1000).find_map(|_| TcpListener::bind((host, rand::random_range(OURS))).ok());
    let listener = listener.expect("a free port");
    listener.set_nonblocking(true).expect("a listener for the runtime");
    listener
}

/// A port of this machine that nobody has.
///
/// # Panics
/// When there is none.
pub fn free() -> u16 {
    listen("127.0.0.1").local_addr().expect("its address").port()
}
