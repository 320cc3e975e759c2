//! The API and the storage, played by one small server that fails as it is told.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What happens to a request instead of what should.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// This status, with an error's body.
    Status(u16),
    /// The connection ends before there is an answer.
    NoAnswer,
    /// There is no answer, for as long as the client waits.
    Hang,
    /// The answer breaks off after so many bytes of its body.
    Cut(usize),
    /// All is done as it should be, and then the answer gets lost.
    Lost,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// A status, headers and a body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

#[derive(Default)]
struct State {
    faults: HashMap<String, VecDeque<Fault>>,
    seen: Vec<(String, String)>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    /// Serves until the test is over. With `tls`, by https under the name `localhost`.
    pub(crate) fn start(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let state = Arc::new(Mutex::new(State::default()));
        let server = Server { url, state: Arc::clone(&state) };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, answer, state) = (tls.clone(), Arc::clone(&answer), Arc::clone(&state));
                thread::spawn(move || match tls {
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        serve(StreamOwned::new(connection, stream), &*answer, &state);
                    }
                    None => serve(stream, &*answer, &state),
                });
            }
        });
        server
    }

    /// The next requests whose path ends with `path` fail like this.
    pub(crate) fn fail(&self, path: &str, faults: &[Fault]) {
        self.state().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    /// How many requests there were to paths that end with `path`.
    pub(crate) fn seen(&self, path: &str) -> usize {
        self.state().seen.iter().filter(|(_, seen)| seen.ends_with(path)).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn serve(stream: impl Read + Write, answer: &dyn Fn(&Request) -> Answer, state: &Mutex<State>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        let fault = {
            let mut state = state.lock().unwrap();
            state.seen.push((request.method.clone(), request.path.clone()));
            let due =
                state.faults.iter_mut().find(|(path, faults)| request.path.ends_with(*path) && !faults.is_empty());
            due.and_then(|(_, faults)| faults.pop_front())
        };
        let (status, headers, body) = match fault {
            Some(Fault::NoAnswer) => return,
            Some(Fault::Hang) => {
                let _ = stream.read(&mut [0]);
                return;
            }
            Some(Fault::Status(status)) => (status, Vec::new(), br#"{"error":{"message":"as told"}}"#.to_vec()),
            _ => answer(&request),
        };
        if matches!(fault, Some(Fault::Lost)) {
            return;
        }
        let mut head = format!("HTTP/1.1 {status} As told\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        let sent = match fault {
            Some(Fault::Cut(at)) => &body[..at],
            _ => &body[..],
        };
        let out = stream.get_mut();
        let done = out.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| out.write_all(sent));
        if done.and_then(|()| out.flush()).is_err() || sent.len() < body.len() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { method, path, headers, body })
}
