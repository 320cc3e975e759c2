//! A real Chromium, driven over its DevTools protocol: messages by a pipe, so that nothing listens and it ends with us.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Mutex as AsyncMutex, oneshot},
};

/// Longest wait for anything that is to show up in a page.
const LIMIT: Duration = Duration::from_secs(20);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;
/// What pages said on their consoles, by session.
type Said = Arc<Mutex<HashMap<String, Vec<String>>>>;

/// A browser; it ends when dropped.
#[derive(Debug)]
pub struct Browser {
    connection: Connection,
    process: Child,
    _profile: TempDir,
}

/// All its processes go first: one that is left writes to the profile that is deleted next.
impl Drop for Browser {
    fn drop(&mut self) {
        let Some(group) = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) else { return };
        let begun = Instant::now();
        while kill_process_group(group, Signal::KILL).is_ok() && begun.elapsed() < Duration::from_secs(5) {
            let _ = self.process.try_wait();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[derive(Clone, Debug)]
struct Connection {
    input: Arc<AsyncMutex<ChildStdin>>,
    waiting: Waiting,
    said: Said,
    next: Arc<AtomicU64>,
}

/// A tab with cookies and storage of its own.
#[derive(Debug)]
pub struct Page {
    connection: Connection,
    session: String,
    base: String,
}

/// The browser that `./dev test` found.
fn program() -> PathBuf {
    let program =
        std::env::var_os("BUILDIT_TEST_BROWSER").expect("BUILDIT_TEST_BROWSER names a Chromium; run ./dev test");
    PathBuf::from(program)
}

impl Browser {
    /// Starts one.
    pub async fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("buildit-browser-").tempdir().expect("a folder");
        // Chromium reads commands from its third descriptor and answers on the fourth.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(program())
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--force-color-profile=srgb", "--remote-debugging-pipe", "--lang=en-US"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a browser");
        let input = process.stdin.take().expect("its input");
        let mut output = BufReader::new(process.stdout.take().expect("its output"));
        let connection = Connection {
            input: Arc::new(AsyncMutex::new(input)),
            waiting: Waiting::default(),
            said: Said::default(),
            next: Arc::default(),
        };
        let (waiting, said) = (Arc::clone(&connection.waiting), Arc::clone(&connection.said));
        tokio::spawn(async move {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).await.is_ok_and(|read| read > 0) {
                message.pop();
                if let Ok(message) = serde_json::from_slice::<Value>(&message) {
                    received(&message, &waiting, &said);
                }
                message.clear();
            }
            // Whoever still waits learns that nothing will come.
            waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        Self { connection, process, _profile: profile }
    }

    /// A tab for the installation at `base`, signed in by that session if there is one.
    pub async fn page(&self, base: &str, session_token: Option<&str>) -> Page {
        let on = &self.connection;
        let context = on.ask(None, "Target.createBrowserContext", json!({})).await["browserContextId"].clone();
        let target = json!({ "url": "about:blank", "browserContextId": context });
        let target = on.ask(None, "Target.createTarget", target).await["targetId"].clone();
        let session = on.ask(None, "Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        let page = Page { connection: on.clone(), session, base: base.to_owned() };
        for domain in ["Page.enable", "Runtime.enable", "Network.enable", "Log.enable"] {
            page.ask(domain, json!({})).await;
        }
        if let Some(token) = session_token {
            let cookie = json!({ "name": "buildit_session", "value": token, "url": base, "httpOnly": true });
            page.ask("Network.setCookie", cookie).await;
        }
        page.size(1280, 800).await;
        page
    }
}

fn received(message: &Value, waiting: &Waiting, said: &Said) {
    if let Some(id) = message["id"].as_u64() {
        let asked = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        let answer = match message.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(message["result"].clone()),
        };
        if let Some(asked) = asked {
            let _ = asked.send(answer);
        }
        return;
    }
    let params = &message["params"];
    let words = match message["method"].as_str() {
        Some("Runtime.exceptionThrown") => params["exceptionDetails"].to_string(),
        Some("Log.entryAdded") if params["entry"]["level"] == "error" => params["entry"].to_string(),
        Some("Runtime.consoleAPICalled") if params["type"] == "error" => params["args"].to_string(),
        _ => return,
    };
    let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
    said.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default().push(words);
}

impl Connection {
    async fn ask(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.try_ask(session, method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_ask(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.lock().await.write_all(&bytes).await.expect("the browser listens");
        let answer = tokio::time::timeout(LIMIT, receiver).await;
        let answer = answer.unwrap_or_else(|_| panic!("the browser did not answer to {method}"));
        answer.expect("the browser lives")
    }
}

impl Page {
    async fn ask(&self, method: &str, params: Value) -> Value {
        self.connection.ask(Some(&self.session), method, params).await
    }

    /// Opens a path, or a whole address, and waits until it is loaded.
    pub async fn open(&self, path: &str) {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        self.eval("window.left = true").await;
        self.ask("Page.navigate", json!({ "url": url })).await;
        self.loaded().await;
    }

    /// Has each page from now on run a script before its own.
    pub async fn before_each_page(&self, script: &str) {
        self.ask("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    /// Loads the page again.
    pub async fn reload(&self) {
        self.eval("window.left = true").await;
        self.ask("Page.reload", json!({})).await;
        self.loaded().await;
    }

    /// Waits until the page that was there is gone and the next one is complete.
    async fn loaded(&self) {
        self.until("window.left !== true && document.readyState === 'complete'").await;
    }

    /// What a script in the page comes to.
    pub async fn eval(&self, script: &str) -> Value {
        self.try_eval(script).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_eval(&self, script: &str) -> Result<Value, String> {
        let params = json!({ "expression": script, "awaitPromise": true, "returnByValue": true });
        // An error of the protocol here means that the page went away meanwhile.
        let answer = self.connection.try_ask(Some(&self.session), "Runtime.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(answer["result"]["value"].clone()),
        }
    }

    /// Waits until a script comes to something true.
    pub async fn until(&self, script: &str) {
        let begun = Instant::now();
        while self.try_eval(script).await.ok().is_none_or(|value| value != Value::Bool(true)) {
            if begun.elapsed() > LIMIT {
                let text = self.eval("document.body.innerText").await;
                panic!("waited in vain for: {script}\n{}\n{:?}", text.as_str().unwrap_or_default(), self.errors());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the page shows this text.
    pub async fn shows(&self, text: &str) {
        self.until(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// The text of what a selector finds first.
    pub async fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// How many things a selector finds.
    pub async fn count(&self, selector: &str) -> u64 {
        self.eval(&format!("document.querySelectorAll({}).length", json!(selector))).await.as_u64().unwrap_or(0)
    }

    /// Clicks in the middle of what a selector finds first, as a mouse does.
    pub async fn click(&self, selector: &str) {
        let place = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }});
               const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(selector)
        );
        let place = self.eval(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let click = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", click).await;
        }
    }

    /// Clicks what leads to another page, and waits until that is there. At once rather than by a mouse, under which a
    /// live page may move.
    pub async fn follow(&self, selector: &str) {
        self.eval(&format!("{{ window.left = true; document.querySelector({}).click(); }}", json!(selector))).await;
        self.loaded().await;
    }

    /// Writes into the field that a selector finds first, in place of what is there.
    pub async fn fill(&self, selector: &str, text: &str) {
        self.eval(&format!("{{ const e = document.querySelector({}); e.focus(); e.select?.(); }}", json!(selector)))
            .await;
        self.ask("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key: a character, or `Enter`, `Escape`, `Tab`.
    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            "Tab" => (9, ""),
            key => (key.to_uppercase().bytes().next().map_or(0, u32::from), key),
        };
        let down = json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.ask("Input.dispatchKeyEvent", down).await;
        self.ask("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": code })).await;
    }

    /// The size of the window, in pixels.
    pub async fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.ask("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// What its user wants of colours: dark ones, or light ones.
    pub async fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value },
                                            { "name": "prefers-reduced-motion", "value": "reduce" }] });
        self.ask("Emulation.setEmulatedMedia", features).await;
    }

    /// Whether scripts run.
    pub async fn scripts(&self, run: bool) {
        self.ask("Emulation.setScriptExecutionDisabled", json!({ "value": !run })).await;
    }

    /// What axe finds to be hard to use for some people, by the rules of WCAG 2.2 A and AA; nothing, one hopes.
    pub async fn barriers(&self) -> Vec<String> {
        let script =
            std::env::var_os("BUILDIT_TEST_AXE").expect("BUILDIT_TEST_AXE names axe-core's script; run ./dev test");
        let script = std::fs::read_to_string(script).expect("axe-core's script");
        self.eval(&format!("{script}; undefined")).await;
        let run = "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }).then((found) =>
            found.violations.flatMap((rule) => rule.nodes.map((node) => `${rule.id}: ${node.html} ${node.failureSummary}`)))";
        serde_json::from_value(self.eval(run).await).expect("a list")
    }

    /// What scripts and the browser complained of so far.
    pub fn errors(&self) -> Vec<String> {
        let said = self.connection.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(&self.session).cloned().unwrap_or_default()
    }

    /// Keeps a picture of the window in the folder that `./dev test` names, light and dark.
    pub async fn pictures(&self, name: &str) {
        for (scheme, dark) in [("light", false), ("dark", true)] {
            self.dark(dark).await;
            self.picture(&format!("{name}-{scheme}")).await;
        }
        self.dark(false).await;
    }

    /// Keeps a picture of the window as it is.
    pub async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("BUILDIT_TEST_PICTURES") else { return };
        let picture = self.ask("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).expect("a file");
    }
}
