//! One attempt in a pod of its own.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use base64::{Engine, engine::general_purpose::STANDARD};
use buildit_runner::pod::{
    BeginRequest, Begun, CompleteRequest, Download, Frame, FrameReader, PartAddress, PartRequest, PodSpec,
    RUNNER_HEADER, UploadBegun, UploadRequest,
};
use buildit_runner::{AttemptSpec, Report};
use sha2::{Digest, Sha256};

use super::server::{Answer, Request, Server};

const TOKEN: &str = "the attempt's token";

/// What API and storage know.
#[derive(Default)]
pub(crate) struct Known {
    /// Whoever has begun.
    pub(crate) runner: Option<String>,
    /// Archives to be fetched, by path: the checkout, then inputs.
    pub(crate) archives: Vec<Vec<u8>>,
    /// How often the attempt has to wait for its turn.
    pub(crate) not_yet: u32,
    pub(crate) part_size: u64,
    https: bool,
    uploads: HashMap<String, (UploadRequest, HashMap<u32, Vec<u8>>)>,
    /// Complete objects.
    pub(crate) objects: HashMap<String, Vec<u8>>,
    pub(crate) report: Option<Report>,
}

pub(crate) struct Pod {
    pub(crate) server: Server,
    known: Arc<Mutex<Known>>,
    pub(crate) spec: PodSpec,
    root: tempfile::TempDir,
}

/// What a pod left.
pub(crate) struct Left {
    pub(crate) exit: Option<i32>,
    /// The log as it was printed.
    pub(crate) printed: String,
    /// The last frame.
    pub(crate) told: Option<Report>,
    pub(crate) errors: String,
}

/// A runner that runs, and what it has printed so far.
pub(crate) struct Running {
    child: Child,
    printed: Arc<Mutex<(String, Option<Report>)>>,
    reading: [JoinHandle<String>; 2],
}

impl Pod {
    pub(crate) fn of(commands: &[&str]) -> Pod {
        Pod::with_tls(commands, None)
    }

    pub(crate) fn with_tls(commands: &[&str], tls: Option<Arc<rustls::ServerConfig>>) -> Pod {
        let root = tempfile::tempdir().unwrap();
        let mut attempt = AttemptSpec::new(uuid::Uuid::new_v4().to_string(), "test");
        attempt.commands = commands.iter().map(|command| command.to_string()).collect();
        attempt.workspace = root.path().join("workspace");
        let known = Arc::new(Mutex::new(Known { part_size: 1 << 20, https: tls.is_some(), ..Known::default() }));
        let prefix = format!("/base/api/v1/attempts/{}/", attempt.attempt_id);
        let server = {
            let known = Arc::clone(&known);
            Server::start(tls, move |request| answer(&mut known.lock().unwrap(), &prefix, request))
        };
        let spec = PodSpec::new(attempt, format!("{}/base", server.url), TOKEN, root.path().join("root"));
        Pod { server, known, spec, root }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut AttemptSpec)) -> Pod {
        change(&mut self.spec.attempt);
        self
    }

    /// The first one is the checkout.
    pub(crate) fn with_archives(self, archives: Vec<Vec<u8>>) -> Pod {
        self.known().archives = archives;
        self
    }

    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    pub(crate) fn workspace(&self, path: &str) -> PathBuf {
        self.spec.attempt.workspace.join(path)
    }

    /// Starts it and leaves its standard output to the caller.
    pub(crate) fn start_unread(&self) -> Child {
        let spec = self.root.path().join("spec.json");
        fs::write(&spec, serde_json::to_vec(&self.spec).unwrap()).unwrap();
        Command::new(env!("CARGO_BIN_EXE_buildit-runner"))
            .arg("pod")
            .arg(spec)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("OF_THE_IMAGE", "image")
            .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn start(&self) -> Running {
        let mut child = self.start_unread();
        let printed: Arc<Mutex<(String, Option<Report>)>> = Arc::default();
        let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read_frames = {
            let printed = Arc::clone(&printed);
            move || {
                let mut reader = FrameReader::new();
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = out.read(&mut buffer) {
                    let mut printed = printed.lock().unwrap();
                    for frame in reader.feed(&buffer[..count]) {
                        assert_eq!(printed.1, None, "the last word is the last one");
                        match frame {
                            Frame::Log { offset, bytes } => {
                                assert_eq!(offset, printed.0.len() as u64);
                                printed.0.push_str(std::str::from_utf8(&bytes).unwrap());
                            }
                            Frame::End(report) => printed.1 = Some(*report),
                        }
                    }
                }
                String::new()
            }
        };
        let read_errors = move || {
            let mut text = String::new();
            err.read_to_string(&mut text).unwrap();
            text
        };
        let reading = [std::thread::spawn(read_frames), std::thread::spawn(read_errors)];
        Running { child, printed, reading }
    }

    pub(crate) fn run(&self) -> Left {
        self.start().end()
    }
}

impl Running {
    pub(crate) fn wait_for_log(&self, text: &str) {
        crate::attempt::until(|| self.printed.lock().unwrap().0.contains(text));
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn end(mut self) -> Left {
        let exit = self.child.wait().unwrap().code();
        let [_, errors] = self.reading.map(|reading| reading.join().unwrap());
        let (printed, told) = std::mem::take(&mut *self.printed.lock().unwrap());
        Left { exit, printed, told, errors }
    }
}

/// A `tar.zst` with text files.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn json(body: &impl serde::Serialize) -> Answer {
    (200, Vec::new(), serde_json::to_vec(body).unwrap())
}

fn refuse(status: u16) -> Answer {
    (status, Vec::new(), br#"{"error":{"message":"refused"}}"#.to_vec())
}

fn answer(known: &mut Known, prefix: &str, request: &Request) -> Answer {
    if let Some(storage) = request.path.strip_prefix("/storage/") {
        return answer_as_storage(known, storage, request);
    }
    let Some(path) = request.path.strip_prefix(prefix) else { return refuse(404) };
    let host = &request.headers["host"];
    let token = request.headers.get("authorization").map(String::as_str);
    if request.method != "POST" || token != Some(&format!("Bearer {TOKEN}")) {
        return refuse(401);
    }
    let base = format!("{}://{host}", if known.https { "https" } else { "http" });
    if path == "begin" {
        return answer_begin(known, &base, &serde_json::from_slice(&request.body).unwrap());
    }
    if request.headers.get(RUNNER_HEADER) != known.runner.as_ref() {
        return refuse(403);
    }
    if path == "report" {
        known.report = Some(serde_json::from_slice(&request.body).unwrap());
        return (204, Vec::new(), Vec::new());
    }
    let Some(object) = path.strip_prefix("objects/") else { return refuse(404) };
    if let Some(name) = object.strip_suffix("/parts") {
        let asked: PartRequest = serde_json::from_slice(&request.body).unwrap();
        let Some((content, _)) = known.uploads.get(&asked.upload) else { return refuse(409) };
        let left = content.size - u64::from(asked.part - 1) * known.part_size;
        assert_eq!(asked.size, left.min(known.part_size));
        let url = format!("{base}/storage/{name}?upload={}&part={}", asked.upload, asked.part);
        return json(&PartAddress { url });
    }
    if let Some(name) = object.strip_suffix("/complete") {
        return complete(known, name, &serde_json::from_slice(&request.body).unwrap());
    }
    let content: UploadRequest = serde_json::from_slice(&request.body).unwrap();
    if let Some(bytes) = &content.bytes {
        let bytes = STANDARD.decode(bytes).unwrap();
        assert_eq!((bytes.len() as u64, hex::encode(Sha256::digest(&bytes))), (content.size, content.sha256));
        known.objects.insert(object.to_owned(), bytes);
        return json(&UploadBegun { upload: None, part_size: known.part_size, parts: 1 });
    }
    let parts = content.size.div_ceil(known.part_size).max(1) as u32;
    let upload = (!known.objects.contains_key(object)).then(|| known.uploads.len().to_string());
    if let Some(upload) = &upload {
        known.uploads.insert(upload.clone(), (content, HashMap::new()));
    }
    json(&UploadBegun { upload, part_size: known.part_size, parts })
}

fn answer_begin(known: &mut Known, base: &str, request: &BeginRequest) -> Answer {
    if known.not_yet > 0 {
        known.not_yet -= 1;
        return (202, Vec::new(), b"{}".to_vec());
    }
    if *known.runner.get_or_insert_with(|| request.runner.clone()) != request.runner {
        return refuse(409);
    }
    let mut downloads =
        (0..known.archives.len()).map(|index| Download { url: format!("{base}/storage/archive-{index}") });
    json(&Begun { checkout: downloads.next(), inputs: downloads.collect() })
}

fn complete(known: &mut Known, name: &str, request: &CompleteRequest) -> Answer {
    if known.objects.contains_key(name) {
        return json(&());
    }
    let Some((content, parts)) = known.uploads.get(&request.upload) else { return refuse(409) };
    let mut whole = Vec::new();
    for (index, etag) in request.parts.iter().enumerate() {
        let part = &parts[&(index as u32 + 1)];
        assert_eq!(*etag, tag(part));
        whole.extend_from_slice(part);
    }
    assert_eq!((request.size, &request.sha256), (content.size, &content.sha256));
    assert_eq!((whole.len() as u64, hex::encode(Sha256::digest(&whole))), (content.size, content.sha256.clone()));
    known.objects.insert(name.to_owned(), whole);
    json(&())
}

fn answer_as_storage(known: &mut Known, path: &str, request: &Request) -> Answer {
    assert_eq!(request.headers.get("authorization"), None, "the token is not the storage's to know");
    if request.method == "GET" {
        let index = path.strip_prefix("archive-").and_then(|index| index.parse::<usize>().ok());
        let archive = index.and_then(|index| known.archives.get(index));
        return archive.map_or_else(|| refuse(404), |archive| (200, Vec::new(), archive.clone()));
    }
    let (_, query) = path.split_once("?upload=").unwrap();
    let (upload, part) = query.split_once("&part=").unwrap();
    let Some((content, parts)) = known.uploads.get_mut(upload) else { return refuse(404) };
    let part = part.parse().unwrap();
    let left = content.size - u64::from(part - 1) * known.part_size;
    assert_eq!(request.headers["content-length"], left.min(known.part_size).to_string());
    let headers = vec![("etag", tag(&request.body))];
    parts.insert(part, request.body.clone());
    (200, headers, Vec::new())
}

fn tag(part: &[u8]) -> String {
    format!("\"{}\"", hex::encode(&Sha256::digest(part)[..8]))
}
