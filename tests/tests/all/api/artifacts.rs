//! What a run left behind, file by file and as one archive.

use std::io::{Cursor, Read};

use buildit_shared::ids::{ArtifactId, RunId};
use buildit_tests::api::{Api, answer};
use reqwest::{Method, header};
use serde_json::json;

async fn publish(api: &Api, run: RunId, path: &str, bytes: &[u8], expired: bool) {
    let key = format!("artifacts/{run}/results/{path}");
    api.storage.put(&key, bytes.to_vec()).await.unwrap();
    sqlx::query(
        "insert into artifacts (id, organization_id, project_id, run_id, name, path, content_type, size, sha256,
                                storage_key, expires_at)
         select $1, organization_id, project_id, id, 'results', $3, 'text/plain', $4, 'x', $5,
                case when $6 then now() - interval '1 second' end
         from pipeline_runs where id = $2",
    )
    .bind(ArtifactId::new())
    .bind(run)
    .bind(path)
    .bind(i64::try_from(bytes.len()).unwrap())
    .bind(key)
    .bind(expired)
    .execute(&api.database.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn files_are_listed_and_downloaded_by_links() {
    let api = Api::start().await;
    api.project("web").await;
    let run = api.running_step("web").await.run;
    publish(&api, run, "a b.txt", b"hello", false).await;
    publish(&api, run, "deep/ä.txt", b"world!", false).await;
    publish(&api, run, "old.txt", b"gone", true).await;
    let (_, artifacts) = api.get(&format!("/api/v1/runs/{run}/artifacts")).await;
    let results = &artifacts["items"][0];
    assert_eq!((&results["name"], &results["files"], &results["size"]), (&json!("results"), &json!(2), &json!(11)));
    let (_, files) = api.get(&format!("/api/v1/runs/{run}/artifacts/results")).await;
    let paths: Vec<_> = files["items"].as_array().unwrap().iter().map(|file| &file["path"]).collect();
    assert_eq!(paths, [&json!("a b.txt"), &json!("deep/ä.txt")]);
    for (path, bytes) in [("a%20b.txt", "hello"), ("deep/%C3%A4.txt", "world!")] {
        let request = api.request(Method::GET, &format!("/api/v1/runs/{run}/artifacts/results/files/{path}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 307);
        let link = response.headers()[header::LOCATION].to_str().unwrap();
        let file = api.anonymous(Method::GET, link).send().await.unwrap();
        assert!(file.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment; filename="));
        assert_eq!(file.text().await.unwrap(), bytes);
    }
    let direct = files["items"][0]["download_url"].as_str().unwrap();
    assert_eq!(api.anonymous(Method::GET, direct).send().await.unwrap().text().await.unwrap(), "hello");
    for path in ["results/files/old.txt", "results/files/none", "none", "none/archive", "results/files/..%2fa"] {
        assert_eq!(api.get(&format!("/api/v1/runs/{run}/artifacts/{path}")).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn an_archive_holds_every_file_with_its_bytes() {
    let api = Api::start().await;
    api.project("web").await;
    let run = api.running_step("web").await.run;
    let large: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    publish(&api, run, "deep/large.bin", &large, false).await;
    publish(&api, run, "empty", b"", false).await;
    let response =
        api.request(Method::GET, &format!("/api/v1/runs/{run}/artifacts/results/archive")).send().await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/zip");
    let bytes = response.bytes().await.unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    assert_eq!(archive.len(), 2);
    for (path, expected) in [("deep/large.bin", large.as_slice()), ("empty", b"")] {
        let mut unpacked = Vec::new();
        archive.by_name(path).unwrap().read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == expected, "{path}");
    }
}

#[tokio::test]
async fn an_archive_whose_file_is_missing_breaks_off() {
    let api = Api::start().await;
    api.project("web").await;
    let run = api.running_step("web").await.run;
    publish(&api, run, "a", b"a", false).await;
    api.storage.delete(&format!("artifacts/{run}/results/a")).await.unwrap();
    let path = format!("/api/v1/runs/{run}/artifacts/results/archive");
    let response = api.request(Method::GET, &path).send().await.unwrap();
    assert!(response.bytes().await.is_err());
    assert_eq!(answer(api.request(Method::GET, &format!("/api/v1/runs/{run}/artifacts/results/files/a"))).await.0, 307);
}
