//! A browser without a screen: it keeps cookies, follows redirects and sends forms.

use std::collections::BTreeMap;

use reqwest::{Client, RequestBuilder, header};
use url::{Url, form_urlencoded};

/// Most redirects in a row.
const MOST: usize = 10;

/// Somebody at a browser.
#[derive(Debug)]
pub struct Visitor {
    client: Client,
    /// By host and port, then by name. Paths are not told apart.
    cookies: BTreeMap<String, BTreeMap<String, String>>,
}

/// A page.
#[derive(Debug)]
pub struct Seen {
    /// Its status.
    pub status: u16,
    /// Where it is.
    pub url: Url,
    /// What it says.
    pub text: String,
}

impl Visitor {
    /// Somebody without cookies, who asks by that client, which follows no redirects.
    pub fn new(client: Client) -> Self {
        Self { client, cookies: BTreeMap::new() }
    }

    /// The page that an address leads to.
    pub async fn open(&mut self, url: &str) -> Seen {
        let url = url.parse().expect("an address");
        self.follow(url, None).await
    }

    /// The page that a form leads to: the fields that it has, and what is filled in.
    pub async fn send(&mut self, page: &Seen, action: &str, filled: &[(&str, &str)]) -> Seen {
        let url = page.url.join(action).expect("an address");
        let mut form = form_urlencoded::Serializer::new(String::new());
        for (name, value) in hidden_fields(&page.text, action) {
            form.append_pair(&name, &value);
        }
        let form = form.extend_pairs(filled).finish();
        self.follow(url, Some(form)).await
    }

    /// Whether a site has set this cookie.
    pub fn has_cookie(&self, url: &Url, name: &str) -> bool {
        self.cookies.get(url.authority()).is_some_and(|cookies| cookies.contains_key(name))
    }

    async fn follow(&mut self, mut url: Url, mut form: Option<String>) -> Seen {
        for _ in 0..MOST {
            let request = match form.take() {
                None => self.client.get(url.clone()),
                Some(form) => self
                    .client
                    .post(url.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .header(header::ORIGIN, url.origin().ascii_serialization())
                    .body(form),
            };
            let answer = self.with_cookies(request, &url).send().await.expect("an answer");
            self.keep(&answer, &url);
            let location = answer.headers().get(header::LOCATION).map(|to| to.to_str().expect("text").to_owned());
            match location.filter(|_| answer.status().is_redirection()) {
                Some(to) => url = url.join(&to).expect("an address"),
                None => {
                    let status = answer.status().as_u16();
                    return Seen { status, url, text: answer.text().await.expect("a page") };
                }
            }
        }
        panic!("led around in circles, at last to {url}");
    }

    fn with_cookies(&self, request: RequestBuilder, url: &Url) -> RequestBuilder {
        let cookies = self.cookies.get(url.authority()).into_iter().flatten();
        let cookies: Vec<_> = cookies.map(|(name, value)| format!("{name}={value}")).collect();
        if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies.join("; ")) }
    }

    fn keep(&mut self, answer: &reqwest::Response, url: &Url) {
        let kept = self.cookies.entry(url.authority().to_owned()).or_default();
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("text");
            let (name, value) = cookie.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if value.is_empty() || cookie.contains("Max-Age=0") {
                kept.remove(name);
            } else {
                kept.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// The hidden fields of the form with this action.
fn hidden_fields(page: &str, action: &str) -> Vec<(String, String)> {
    let form = page.split("<form").find(|form| form.split('>').next().is_some_and(|tag| tag.contains(action)));
    let form = form.unwrap_or_else(|| panic!("no form for {action}: {page}"));
    let form = form.split("</form>").next().unwrap_or_default();
    let fields = form.split("<input").skip(1).filter_map(|input| input.split('>').next());
    let of = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\""))?.1.split('"').next()?;
        Some(value.replace("&#43;", "+").replace("&#34;", "\"").replace("&amp;", "&"))
    };
    let hidden = fields.filter(|tag| tag.contains("type=\"hidden\""));
    hidden.filter_map(|tag| Some((of(tag, "name")?, of(tag, "value")?))).collect()
}
