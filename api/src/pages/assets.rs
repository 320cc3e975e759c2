//! The stylesheet, the scripts and the icons: parts of the program, under names that change with what is in them, so that
//! browsers keep them for good.

use std::{collections::HashMap, fmt::Write, sync::LazyLock};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::status::ICONS;
use crate::extract::Path;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

struct Asset {
    content_type: &'static str,
    body: String,
}

struct Assets {
    /// What is served, by its address's last part.
    by_address: HashMap<String, Asset>,
    /// Those addresses, by the names that the sources have.
    addresses: HashMap<&'static str, String>,
}

impl Assets {
    fn add(&mut self, name: &'static str, content_type: &'static str, body: String) {
        let mut hash = String::new();
        for byte in &Sha256::digest(&body)[..6] {
            let _ = write!(hash, "{byte:02x}");
        }
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
        let address = format!("{stem}-{hash}.{ending}");
        self.by_address.insert(address.clone(), Asset { content_type, body });
        self.addresses.insert(name, format!("/static/{address}"));
    }
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut assets = Assets { by_address: HashMap::new(), addresses: HashMap::new() };
    assets.add("style.css", CSS, include_str!("../../static/style.css").into());
    assets.add("app.js", SCRIPT, include_str!("../../static/app.js").into());
    assets.add("setup.js", SCRIPT, include_str!("../../static/setup.js").into());
    assets.add("ansi.js", SCRIPT, include_str!("../../static/ansi.js").into());
    let log = include_str!("../../static/log.js").replace("./ansi.js", &assets.addresses["ansi.js"]);
    assets.add("log.js", SCRIPT, log);
    for icon in &ICONS {
        assets.add(icon.file, SVG, icon.file_body());
    }
    assets
});

/// The address of an asset, by its name in the sources.
pub(super) fn address(name: &str) -> &'static str {
    ASSETS.addresses.get(name).map_or("", String::as_str)
}

/// `GET /static/{asset}`
pub(super) async fn serve(Path(asset): Path<String>) -> Response {
    let Some(asset) = ASSETS.by_address.get(&asset) else { return StatusCode::NOT_FOUND.into_response() };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, asset.body.as_str()).into_response()
}
