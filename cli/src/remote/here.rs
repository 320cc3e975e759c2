//! The project whose repository the current folder is a clone of.

use std::{path::Path, process::Command};

use anyhow::anyhow;
use serde::Deserialize;

use super::{error::Error, server::Server};
use crate::exit::Problem;

#[derive(Deserialize)]
struct Project {
    name: String,
    repository: String,
}

/// The name of that project.
pub(super) async fn project(server: &Server) -> Result<String, Problem> {
    let addresses: Vec<String> = addresses().iter().map(|address| normal(address)).collect();
    let unknown = |why: &str| Problem::usage(anyhow!("which project? {why}; name it by --project"));
    if addresses.is_empty() {
        return Err(unknown("This folder is no clone of a git repository"));
    }
    let projects = server.list(&["projects"], &[], usize::MAX).await.map_err(Error::problem)?;
    let projects: Vec<Project> = projects.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let mut found = projects.into_iter().filter(|project| addresses.contains(&normal(&project.repository)));
    match (found.next(), found.next()) {
        (None, _) => Err(unknown("None has the repository that this folder is a clone of")),
        (Some(project), None) => Ok(project.name),
        (Some(_), Some(_)) => Err(unknown("Several have the repository that this folder is a clone of")),
    }
}

/// Where the repository of the current folder comes from, and where it is itself.
fn addresses() -> Vec<String> {
    let git = |arguments: &[&str]| -> Vec<String> {
        let output = Command::new("git").args(arguments).output();
        let output =
            output.ok().filter(|output| output.status.success()).map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).lines().map(str::to_owned).collect()
    };
    let mut addresses = git(&["rev-parse", "--absolute-git-dir"]);
    for line in git(&["config", "--get-regexp", r"^remote\..*\.url$"]) {
        addresses.extend(line.split_once(' ').map(|(_, address)| address.to_owned()));
    }
    addresses
}

/// The same for all addresses of one repository: by https, by ssh, or as a path.
fn normal(address: &str) -> String {
    let address = address.trim_end_matches('/');
    let plain = match address.split_once("://") {
        Some((_, rest)) => {
            rest.split_once('@').filter(|(user, _)| !user.contains('/')).map_or(rest, |(_, rest)| rest).to_owned()
        }
        None => match address.split_once(':') {
            // `git@host:path`
            Some((host, path)) if !host.contains('/') => {
                format!("{}/{}", host.rsplit('@').next().unwrap_or(host), path.trim_start_matches('/'))
            }
            _ => Path::new(address)
                .canonicalize()
                .map_or_else(|_| address.to_owned(), |path| path.to_string_lossy().into_owned()),
        },
    };
    plain.trim_end_matches(".git").trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_has_several_addresses() {
        for address in [
            "https://git.example.org/team/web.git",
            "https://git.example.org/team/web/",
            "https://ada@git.example.org/team/web",
            "ssh://git@git.example.org/team/web.git",
            "git@git.example.org:team/web.git",
            "git.example.org:team/web",
        ] {
            assert_eq!(normal(address), "git.example.org/team/web", "{address}");
        }
        assert_eq!(normal("/nowhere/repositories/web.git/"), "/nowhere/repositories/web");
        assert_ne!(normal("https://git.example.org/team/web"), normal("https://git.example.org/team/web2"));
    }
}
