//! How git gets what opens a private repository.
//!
//! Promises: it is in no argument, no environment, no address, and on no disk: git and ssh read it, by the path of this
//! process's open file, from memory that is gone with this process or with the command. Git hands it to the host of the
//! repository's address and to no other, wherever that redirects to. What git says never shows it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsRawFd,
};

use buildit_shared::db::repository_credentials::Key;
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use url::Url;

/// What makes git use it, for one command.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Before git's own command.
    pub(super) options: Vec<String>,
    /// In its environment: paths, and nothing secret.
    pub(super) ssh_command: Option<String>,
    /// What must not be shown.
    secret: String,
    _files: Vec<File>,
}

impl Handed {
    /// To be kept until the command has ended.
    pub(super) fn new(key: &Key, repository: &str) -> io::Result<Self> {
        match key {
            Key::Token { username, token } => {
                let (file, path) = in_memory(&format!("username={username}\npassword={token}\n"))?;
                // Git asks it for the password, and tells it what became of that.
                let helper = format!("!f() {{ test \"$1\" != get || cat {path}; }}; f");
                let option = format!("credential.{}.helper={helper}", origin(repository)?);
                Ok(Self {
                    options: vec!["-c".into(), option],
                    ssh_command: None,
                    secret: token.clone(),
                    _files: vec![file],
                })
            }
            Key::Ssh { private_key, known_hosts } => {
                let (key, key_path) = in_memory(private_key)?;
                let (hosts, hosts_path) = in_memory(known_hosts)?;
                let command = format!(
                    "ssh -F /dev/null -i {key_path} -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
                     -o StrictHostKeyChecking=yes -o UserKnownHostsFile={hosts_path} \
                     -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=20"
                );
                Ok(Self { ssh_command: Some(command), _files: vec![key, hosts], ..Self::default() })
            }
        }
    }

    /// What git said, as it may be shown.
    pub(super) fn shown(&self, said: &str) -> String {
        if self.secret.is_empty() { said.to_owned() } else { said.replace(&self.secret, "***") }
    }
}

/// Scheme, host and port: what git matches a credential's address by.
fn origin(repository: &str) -> io::Result<String> {
    let url = Url::parse(repository).map_err(io::Error::other)?;
    Ok(url.origin().ascii_serialization())
}

/// A file without a name and the path that children of this process reach it by. They do not inherit it: nothing else that
/// this process starts at the same time has it.
fn in_memory(text: &str) -> io::Result<(File, String)> {
    let mut file = File::from(memfd_create("credential", MemfdFlags::CLOEXEC)?);
    // ssh takes no key that others could read.
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    file.write_all(text.as_bytes())?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok((file, path))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What git would send to that address.
    fn filled(handed: &Handed, address: &str) -> String {
        let mut git = Command::new("git")
            .args(&handed.options)
            .args(["credential", "fill"])
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        git.stdin.take().unwrap().write_all(format!("url={address}\n\n").as_bytes()).unwrap();
        String::from_utf8(git.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_token_goes_to_the_repositorys_host_and_to_no_other() {
        let key = Key::Token { username: "ci".into(), token: "t0k=en %'\"$(x)".into() };
        let handed = Handed::new(&key, "https://git.example:8443/team/web.git").unwrap();
        for same in ["https://git.example:8443/team/web.git", "https://git.example:8443/"] {
            let said = filled(&handed, same);
            assert!(said.contains("username=ci\npassword=t0k=en %'\"$(x)\n"), "{said}");
            assert!(filled(&handed, same).contains("password="), "also when it is asked again");
        }
        for other in [
            "https://git.example/team/web",
            "http://git.example:8443/",
            "https://evil.example/",
            "https://a.git.example:8443/",
        ] {
            assert_eq!(filled(&handed, other), "", "{other}");
        }
        assert!(!format!("{:?}{:?}", handed.options, handed.ssh_command).contains("t0k"));
        assert_eq!(handed.shown("fatal: t0k=en %'\"$(x) was refused"), "fatal: *** was refused");
    }

    #[test]
    fn a_key_is_read_by_ssh_from_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.unwrap().success());
        let private_key = std::fs::read_to_string(&path).unwrap();
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        let key = Key::Ssh { private_key, known_hosts: "git.example ssh-ed25519 AAAA\n".into() };
        let handed = Handed::new(&key, "git@git.example:web").unwrap();
        let command = handed.ssh_command.as_deref().unwrap();
        let key_path = command.split_whitespace().skip_while(|word| *word != "-i").nth(1).unwrap();
        let said = Command::new("ssh-keygen").args(["-y", "-f", key_path]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(!said.is_empty() && public.starts_with(said.split(" root").next().unwrap().trim()), "{said} {public}");
    }
}
