//! Settings and exit codes.

use crate::support::{buildit, said};

#[test]
fn every_command_explains_itself_and_its_exit_codes() {
    for command in [
        &["--help"][..],
        &["validate", "--help"],
        &["migrate", "--help"],
        &["hook", "--help"],
        &["hook", "install", "--help"],
        &["hook", "deliver", "--help"],
    ] {
        let help = said(buildit().args(command));
        assert_eq!(help.code, Some(0), "{command:?}");
        assert!(help.out.contains("Usage: buildit"), "{command:?}: {}", help.out);
    }
    assert!(said(buildit().arg("--help")).out.contains("Exit codes:"));
}

#[test]
fn a_setting_that_does_not_exist_is_an_error_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let from_environment = said(buildit().arg("migrate").env("BUILDIT_DATABSE_URL", "x").current_dir(&folder));
    assert_eq!(from_environment.code, Some(2));
    assert!(from_environment.err.contains("databse_url"), "{}", from_environment.err);

    std::fs::write(folder.path().join("buildit.toml"), "lisen = 1\n").unwrap();
    let from_file = said(buildit().arg("migrate").current_dir(&folder));
    assert_eq!(from_file.code, Some(2));
    assert!(from_file.err.contains("lisen") && from_file.err.contains("buildit.toml"), "{}", from_file.err);

    assert_eq!(said(buildit().args(["migrate", "--lisen"])).code, Some(2));
}

#[test]
fn secrets_and_the_variables_of_clients_are_no_settings() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(
        buildit()
            .args(["migrate", "--database-url", "postgres://nobody@127.0.0.1:1/none"])
            .env("BUILDIT_SECRET_TOKEN", "hunter2")
            .env("BUILDIT_URL", "http://127.0.0.1:30080")
            .env("BUILDIT_TOKEN", "key")
            .current_dir(&folder),
    );
    assert_eq!(said.code, Some(3), "the settings are fine, the database is away: {}", said.err);
}

#[test]
fn later_layers_win() {
    let folder = tempfile::tempdir().unwrap();
    let file = "database_url = 'postgres://file@127.0.0.1:1/file'\n";
    std::fs::write(folder.path().join("buildit.toml"), file).unwrap();
    let migrate = |change: &dyn Fn(&mut std::process::Command)| {
        let mut command = buildit();
        command.arg("migrate").current_dir(&folder);
        change(&mut command);
        said(&mut command)
    };
    // An address that cannot be one is a wrong configuration only where it is the one that counts.
    assert_eq!(migrate(&|_| {}).code, Some(3));
    assert_eq!(
        migrate(&|command| {
            command.env("DATABASE_URL", "no address");
        })
        .code,
        Some(2)
    );
    let right = "postgres://env@127.0.0.1:1/env";
    let both = migrate(&|command| {
        command.env("DATABASE_URL", "no address").env("BUILDIT_DATABASE_URL", right);
    });
    assert_eq!(both.code, Some(3));
    let flag = migrate(&|command| {
        command.env("BUILDIT_DATABASE_URL", right).args(["--database-url", "none"]);
    });
    assert_eq!(flag.code, Some(2));
}

#[test]
fn a_database_is_needed_and_said_how_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(buildit().arg("migrate").current_dir(&folder));
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("set DATABASE_URL"), "{}", said.err);
}

#[test]
fn what_is_wrong_with_the_object_store_is_said_and_its_secret_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let worker = |variables: &[(&str, &str)]| {
        let mut command = buildit();
        command.arg("worker").current_dir(&folder).env("BUILDIT_DATA_DIR", folder.path());
        command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").env("BUILDIT_SIGNING_KEY", "0".repeat(32));
        command.env("BUILDIT_LOG", "debug").env("BUILDIT_STORAGE_KIND", "s3").envs(variables.iter().copied());
        let said = said(&mut command);
        assert!(!said.err.contains("123456"), "{}", said.err);
        said
    };
    let no_bucket = worker(&[]);
    assert_eq!(no_bucket.code, Some(2));
    assert!(no_bucket.err.contains("BUILDIT_STORAGE_BUCKET"), "{}", no_bucket.err);
    let half_a_key = worker(&[("BUILDIT_STORAGE_BUCKET", "ci"), ("BUILDIT_STORAGE_SECRET_KEY", "123456")]);
    assert_eq!(half_a_key.code, Some(2));
    assert!(half_a_key.err.contains("access_key"), "{}", half_a_key.err);
    let unknown = worker(&[("BUILDIT_STORAGE_BUKET", "ci")]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("buket"), "{}", unknown.err);
    // Everything is there; only nobody answers, which is waited for: the database is what a start needs.
    let away = worker(&[
        ("BUILDIT_STORAGE_BUCKET", "ci"),
        ("BUILDIT_STORAGE_ENDPOINT", "http://127.0.0.1:1"),
        ("BUILDIT_STORAGE_ACCESS_KEY", "me"),
        ("BUILDIT_STORAGE_SECRET_KEY", "123456"),
    ]);
    assert_eq!(away.code, Some(3), "{}", away.err);
    assert!(away.err.contains("starting without it"), "{}", away.err);
}

#[test]
fn what_is_wrong_with_the_provider_is_said_and_its_secret_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let api = |variables: &[(&str, &str)]| {
        let mut command = buildit();
        command.args(["api", "--listen", "127.0.0.1:0"]).current_dir(&folder).env("BUILDIT_DATA_DIR", folder.path());
        command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none").env("BUILDIT_SIGNING_KEY", "0".repeat(32));
        command.env("BUILDIT_LOG", "debug").env("BUILDIT_OIDC_CLIENT_SECRET", "123456").envs(variables.iter().copied());
        let said = said(&mut command);
        assert!(!said.err.contains("123456"), "{}", said.err);
        (said.code, said.err)
    };
    let issuer = ("BUILDIT_OIDC_ISSUER", "https://id.example.org");
    let client = ("BUILDIT_OIDC_CLIENT_ID", "buildit");
    for (variables, about) in [
        (&[][..], "no `issuer` is given"),
        (&[("BUILDIT_OIDC_ISSUER", "http://id.example.org"), client], "is not https"),
        (&[issuer], "client_id"),
        (&[issuer, client, ("BUILDIT_OIDC_ROLE", "owner")], "nobody becomes an owner"),
        (&[issuer, client, ("BUILDIT_OIDC_ROLE", "chief")], "chief"),
        (&[issuer, client, ("BUILDIT_OIDC_DOMAINS", r#"["@example.org"]"#)], "is no domain"),
        (&[issuer, client, ("BUILDIT_OIDC_LABEL", " ")], "cannot be empty"),
        (&[issuer, client, ("BUILDIT_OIDC_ISSUR", "a")], "issur"),
    ] {
        let (code, err) = api(variables);
        assert!(code == Some(2) && err.contains(about), "{variables:?}: {code:?} {err}");
    }
    // Nobody asks the provider before somebody signs in; the database is what a start needs.
    assert_eq!(api(&[issuer, client]).0, Some(3));
}
