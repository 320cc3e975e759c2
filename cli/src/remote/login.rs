//! `buildit login` and `logout`.

use serde::Deserialize;
use serde_json::json;

use super::{
    arguments::{Format, Login},
    ask,
    credentials::{self, Credentials},
    error::Error,
    print, runtime,
    server::Server,
};
use crate::exit::{Exit, Problem};

#[derive(Deserialize)]
struct Me {
    permissions: Vec<String>,
}

pub(super) fn login(arguments: &Login) -> Result<Exit, Problem> {
    runtime()?.block_on(async {
        let url = match &arguments.url {
            Some(url) => url.clone(),
            None => credentials::usual_url()?,
        };
        if url.scheme() == "http" && !is_near(&url) {
            eprintln!("buildit: {url} is not encrypted: whoever is on the way can read the key");
        }
        let key = ask::for_secret(&format!("API key for {url}")).await?;
        let server = Server::new(Credentials { url, key: credentials::check_key(&key)? })?;
        let me: Me = server.get(&["me"], &[]).await.map_err(Error::problem)?;
        let file = credentials::store(server.credentials())?;
        if arguments.format.json {
            print::json(&json!({ "url": server.url(), "permissions": me.permissions, "file": file }))?;
        } else {
            print::line(&format!("logged in to {}; the key is in {}", server.url(), file.display()))?;
            print::line(&format!("it may: {}", me.permissions.join(", ")))?;
        }
        tell_of_variables();
        Ok(Exit::Success)
    })
}

pub(super) fn logout(format: Format) -> Result<Exit, Problem> {
    let url = credentials::remove()?;
    if format.json {
        print::json(&json!({ "url": url }))?;
    } else {
        match url {
            Some(url) => print::line(&format!("logged out of {url}; the key is valid until somebody revokes it"))?,
            None => print::line("nobody was logged in")?,
        }
    }
    tell_of_variables();
    Ok(Exit::Success)
}

/// What is stored counts for less than these.
fn tell_of_variables() {
    for name in ["BUILDIT_URL", "BUILDIT_TOKEN"] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            eprintln!("buildit: {name} is set, and wins over what is stored");
        }
    }
}

/// On this machine.
fn is_near(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
