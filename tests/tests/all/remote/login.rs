//! Logging in and out, and which key goes where.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use buildit_tests::{
    installation::{Installation, programs},
    remote::User,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread")]
async fn logging_in_keeps_the_key_for_its_owner_alone_until_one_logs_out() {
    let installation = Installation::start().await;
    let user = User::new(&installation);
    let nobody = user.says(&["runs"]).await;
    assert_eq!(nobody.code, 2, "{nobody:?}");
    assert!(nobody.err.contains("buildit login"), "{nobody:?}");

    let login = user.says_to(&["login", &installation.url], &format!("{}\n", installation.key)).await;
    assert_eq!(login.code, 0, "{login:?}");
    assert!(login.out.contains("secrets:write") && !format!("{login:?}").contains(&installation.key), "{login:?}");
    let file = user.config.join("buildit/login.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    assert!(fs::read_to_string(&file).unwrap().contains(&installation.key));
    assert_eq!(user.says(&["runs", "--json"]).await.json(), json!([]));

    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let open = user.says(&["runs"]).await;
    assert!(open.code == 2 && open.err.contains("chmod 600"), "{open:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();

    let logout = user.says(&["logout"]).await;
    assert!(logout.code == 0 && logout.out.contains(&installation.url) && !file.exists(), "{logout:?}");
    assert_eq!(user.says(&["runs"]).await.code, 2);
    assert_eq!(user.says(&["logout", "--json"]).await.json(), json!({ "url": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_and_a_server_that_is_none_leave_nothing_behind() {
    let installation = Installation::start().await;
    let user = User::new(&installation);
    let wrong = user.says_to(&["login", &installation.url], "bi_wrong").await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.err.contains("refused the key") && !wrong.err.contains("bi_wrong"), "{wrong:?}");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = user.says_to(&["login", &format!("http://{nobody}")], &installation.key).await;
    assert_eq!(away.code, 3, "{away:?}");
    assert!(away.err.contains(&nobody.to_string()) && away.err.contains("is it up"), "{away:?}");

    let other = format!("{}/elsewhere", installation.url);
    let other = user.says_to(&["login", &other], &installation.key).await;
    assert_eq!(other.code, 1, "nothing has this address: {other:?}");
    for said in [&wrong, &away, &other] {
        assert!(!format!("{said:?}").contains(&installation.key), "{said:?}");
    }
    assert!(!user.config.join("buildit").exists());
    let with_key = user.says_to(&["login", "http://ada:secret@127.0.0.1:1"], &installation.key).await;
    assert_eq!(with_key.code, 2, "{with_key:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_win_and_a_stored_key_goes_to_its_own_server_alone() {
    let installation = Installation::start().await;
    let mut user = User::new(&installation);
    assert_eq!(user.says_to(&["login", &installation.url], &installation.key).await.code, 0);
    user.variables = vec![("BUILDIT_TOKEN", "bi_another".into())];
    assert_eq!(user.says(&["runs"]).await.code, 2, "the key of the variable is refused");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    user.variables = vec![("BUILDIT_URL", format!("http://{}", listener.local_addr().unwrap()))];
    let other = user.says(&["runs"]).await;
    assert!(other.code == 2 && other.err.contains("there is no key for"), "{other:?}");
    assert!(listener.accept().is_err(), "it was not even asked");
    user.variables = vec![("BUILDIT_URL", format!("{}/", installation.url))];
    assert_eq!(user.says(&["runs"]).await.code, 0, "the same server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_typed_is_not_shown() {
    let installation = Installation::start().await;
    let user = User::new(&installation);
    let login = format!("{} login {}", programs().join("buildit").display(), installation.url);
    let mut terminal = user.program(Path::new("script"), &["-qec", &login, "/dev/null"]);
    let mut terminal = terminal.stdin(Stdio::piped()).spawn().unwrap();
    let (mut typed, mut shown) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut seen = String::new();
    let mut buffer = [0; 1024];
    let mut typing = Some(format!("{}\n", installation.key));
    loop {
        let read = tokio::time::timeout(Duration::from_secs(60), shown.read(&mut buffer)).await;
        match read.expect("it goes on").unwrap() {
            0 => break,
            length => seen.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
        if seen.contains("API key for")
            && let Some(text) = typing.take()
        {
            typed.write_all(text.as_bytes()).await.unwrap();
            typed.flush().await.unwrap();
        }
    }
    assert!(seen.contains("logged in") && !seen.contains(&installation.key), "{seen}");
    assert!(user.config.join("buildit/login.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_learns_the_commands() {
    let installation = Installation::start().await;
    let user = User::new(&installation);
    for shell in ["bash", "zsh", "fish"] {
        let said = user.says(&["completions", shell]).await;
        assert!(said.code == 0 && said.out.contains("trigger") && said.out.contains("from"), "{shell}: {}", said.err);
    }
    let script = user.folder.join("buildit.bash");
    fs::write(&script, user.says(&["completions", "bash"]).await.out).unwrap();
    let checked = user.program(Path::new("bash"), &["-n", &script.to_string_lossy()]).status().await.unwrap();
    assert!(checked.success());
}
