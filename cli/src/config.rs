//! Settings in layers: defaults, `buildit.toml`, the environment, flags.

use std::path::Path;

use anyhow::{Context, anyhow};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgConnectOptions;

use crate::exit::Problem;

/// Read from the working directory when no other file is named.
const FILE: &str = "buildit.toml";

/// Variables with our prefix that are no settings: where a client finds the server, and which file
/// the settings are read from.
const RESERVED: &[&str] = &["URL", "TOKEN", "CONFIG"];

/// Values for `${secrets.NAME}`, which have no names that we could know.
const SECRETS: &str = "SECRET_";

/// Every setting there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(crate) struct Settings {
    /// `postgres://user:password@host:port/name`.
    pub(crate) database_url: Option<String>,
}

impl Settings {
    /// Reads all layers; `flags` holds those that were given on the command line, as a map.
    ///
    /// # Errors
    /// When a layer cannot be read or names a setting that does not exist.
    pub(crate) fn load(file: Option<&Path>, flags: impl Serialize) -> Result<Settings, Problem> {
        let file = file.or(Some(Path::new(FILE)).filter(|file| file.exists()));
        let mut figment = Figment::from(Serialized::defaults(Settings::default()));
        if let Some(file) = file {
            std::fs::metadata(file)
                .with_context(|| format!("cannot read the configuration file {}", file.display()))
                .map_err(Problem::usage)?;
            figment = figment.merge(Toml::file_exact(file));
        }
        let ours = Env::prefixed("BUILDIT_")
            .filter(|key| !key.starts_with(SECRETS) && !RESERVED.contains(&key.as_str()))
            .lowercase(true);
        figment
            // The name that every other program takes it from.
            .merge(Env::raw().only(&["DATABASE_URL"]))
            .merge(ours)
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| Problem::usage(anyhow!("{error:#}")))
    }

    /// Where the database is.
    ///
    /// # Errors
    /// When no layer names one, or what it names is no address.
    pub(crate) fn database_url(&self) -> Result<&str, Problem> {
        let Some(url) = self.database_url.as_deref() else {
            return Err(Problem::usage(anyhow!(
                "no database is given: set DATABASE_URL, `database_url` in {FILE}, or --database-url"
            )));
        };
        // The address holds a password, so it is not repeated.
        url.parse::<PgConnectOptions>().context("the address of the database is wrong").map_err(Problem::usage)?;
        Ok(url)
    }
}
