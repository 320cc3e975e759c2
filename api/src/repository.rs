//! Where a project's repository may be: a path that the operator allows, `https://`, or ssh.

use std::path::{Component, Path, PathBuf};

use url::Url;

/// Checks a repository's address; the error says what is wrong with it.
pub(crate) fn check(text: &str, roots: &[PathBuf]) -> Result<(), String> {
    if text.is_empty() || text.len() > 2048 {
        return Err("it is empty or longer than 2048 bytes".into());
    }
    if text.chars().any(char::is_control) || text.starts_with('-') {
        return Err("it has a control character or begins with a dash".into());
    }
    if text.starts_with('/') {
        return check_path(Path::new(text), roots);
    }
    if text.contains("://") {
        return check_url(text);
    }
    check_scp_like(text)
}

fn check_path(path: &Path, roots: &[PathBuf]) -> Result<(), String> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("a path with \"..\" is not taken; write where it leads to".into());
    }
    if roots.is_empty() {
        return Err("paths are not allowed here; the operator can allow folders with `repository_roots`".into());
    }
    let allowed = |path: &Path, root: &Path| path.starts_with(root) && path != root;
    // Where the path exists on this machine, links in it must not lead out of the allowed folders.
    let real = match path.canonicalize() {
        Ok(real) if !real.is_dir() => return Err("this path is no folder".into()),
        Ok(real) => Some(real),
        Err(_) => None,
    };
    let fits = roots.iter().any(|root| match &real {
        Some(real) => root.canonicalize().is_ok_and(|root| allowed(real, &root)),
        None => allowed(path, root),
    });
    if fits { Ok(()) } else { Err("this path is not below a folder that the operator allows".into()) }
}

fn check_url(text: &str) -> Result<(), String> {
    let url = Url::parse(text).map_err(|error| format!("it is no address: {error}"))?;
    if !matches!(url.scheme(), "https" | "ssh") {
        return Err(format!("`{}://` is not taken; use `https://`, `ssh://` or an allowed path", url.scheme()));
    }
    let is_ssh = url.scheme() == "ssh";
    if url.password().is_some() || (!is_ssh && !url.username().is_empty()) {
        return Err("addresses hold no credentials; give them to git's credential store or ssh on the workers".into());
    }
    if url.host_str().is_none_or(|host| host.is_empty() || host.starts_with('-')) || url.username().starts_with('-') {
        return Err("it names no host".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment".into());
    }
    if url.path().trim_matches('/').is_empty() || url.path().starts_with("/-") {
        return Err("it names no repository on that host".into());
    }
    Ok(())
}

/// `user@host:path`
fn check_scp_like(text: &str) -> Result<(), String> {
    let plain = |name: &str| {
        !name.is_empty()
            && !name.starts_with('-')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let fits = text.split_once(':').is_some_and(|(host, path)| {
        let host_fits = match host.split_once('@') {
            Some((user, host)) => plain(user) && plain(host),
            None => plain(host),
        };
        // `name::address` would name one of git's helper programs.
        host_fits && !path.is_empty() && !path.starts_with([':', '-'])
    });
    if fits { Ok(()) } else { Err("use an absolute path, `https://…`, `ssh://…` or `user@host:path`".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_usual_shapes_are_taken() {
        for text in [
            "https://git.example/team/web.git",
            "https://git.example:8443/web",
            "ssh://git@git.example/web.git",
            "ssh://git@git.example:2222/~user/web",
            "git@git.example:team/web.git",
            "git.example:web",
        ] {
            assert_eq!(check(text, &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn anything_that_git_would_run_or_read_elsewhere_is_refused() {
        for text in [
            "",
            "web",
            "./web",
            "../web",
            "-u",
            "--upload-pack=x",
            "http://git.example/web",
            "git://git.example/web",
            "file:///srv/web",
            "ext::sh -c touch",
            "ext::ssh://git.example/web",
            "fd::7",
            "https://user@git.example/web",
            "https://user:secret@git.example/web",
            "ssh://git:secret@git.example/web",
            "ssh://-oProxyCommand=x/web",
            "ssh://git.example/-web",
            "https://git.example",
            "https://git.example/web?x=1",
            "-oProxyCommand=x:web",
            "git@-host:web",
            "git@host:-web",
            "git@host:",
            "a b:web",
            "https://git.example/web\n",
        ] {
            assert!(check(text, &["/srv".into()]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_lie_below_the_allowed_folders_also_by_way_of_links() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for path in [inside.join("web.git"), outside.join("web.git")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        std::fs::write(inside.join("file"), "").unwrap();
        let roots = [inside.clone()];
        let fits = |path: PathBuf| check(path.to_str().unwrap(), &roots).is_ok();
        assert!(fits(inside.join("web.git")));
        assert!(fits(inside.join("later.git")));
        assert!(!fits(inside.clone()));
        assert!(!fits(inside.join("file")));
        assert!(!fits(inside.join("link/web.git")));
        assert!(!fits(inside.join("../out/web.git")));
        assert!(!fits(outside.join("web.git")));
        assert!(!fits(outside.join("later.git")));
        assert!(check(inside.join("web.git").to_str().unwrap(), &[]).is_err());
    }
}
