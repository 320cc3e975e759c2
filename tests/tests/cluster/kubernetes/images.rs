//! Images that a step builds in its pod and pushes.

use buildit_tests::{api::client, installation::Installation};

use super::id;

/// Builds an image of the working tree without privileges.
const FILE: &str = "
pipeline:
  steps:
    - name: image
      image: buildit.test/buildah:1
      resources: { memory: 512Mi }
      deploy: production
      # It would make a user namespace of its own, which pods may not.
      environment: { _CONTAINERS_USERNS_CONFIGURED: done, _CONTAINERS_ROOTLESS_UID: \"1\" }
      commands:
        - 'printf \"FROM scratch\\nCOPY .platform.yaml /\\n\" > Containerfile'
        - buildah --storage-driver vfs --root /workspace/.images build --isolation chroot --tag \"$REGISTRY/$PROJECT:$COMMIT_SHA\" .
        - buildah --storage-driver vfs --root /workspace/.images push --tls-verify=false \"$REGISTRY/$PROJECT:$COMMIT_SHA\"
";

#[derive(Debug, PartialEq, sqlx::FromRow)]
struct Deployment {
    run: String,
    image: String,
    digest: Option<String>,
    desired_status: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_built_pushed_and_deployed_and_the_next_one_takes_its_place() {
    let installation = Installation::on_cluster().await;
    let registry = std::env::var("BUILDIT_TEST_REGISTRY").expect("a registry, from `./dev cluster env`");
    let _worker = installation.worker_with(&[("BUILDIT_REGISTRY", &registry)]);
    let project = installation.project("web", &[(".platform.yaml", FILE)]).await;
    let mut runs = Vec::new();
    for change in ["first", "second"] {
        project.commit(&[("change", change)]);
        let run = installation.trigger(&project).await;
        let run = installation.ended(&run).await;
        assert_eq!(run["status"], "success", "{run:#}: {}", installation.log(id(&run), "image").await);
        assert_eq!(run["notes"], serde_json::json!([]), "{run:#}");
        runs.push(run);
    }
    let rows: Vec<Deployment> = sqlx::query_as(
        "select run_id::text as run, image, digest, desired_status from deployments order by created_at",
    )
    .fetch_all(&installation.pool)
    .await
    .unwrap();
    let mut expected = Vec::new();
    for (run, status) in runs.iter().zip(["superseded", "active"]) {
        let sha = run["commit_sha"].as_str().unwrap();
        let manifest = client().get(format!("http://{registry}/v2/web/manifests/{sha}"));
        let manifest = manifest.header("accept", "application/vnd.oci.image.manifest.v1+json").send().await.unwrap();
        let digest = manifest.headers()["docker-content-digest"].to_str().unwrap().to_owned();
        expected.push(Deployment {
            run: id(run).to_owned(),
            image: format!("{registry}/web:{sha}"),
            digest: Some(digest),
            desired_status: status.to_owned(),
        });
    }
    assert_ne!(expected[0].digest, expected[1].digest);
    assert_eq!(rows, expected);
}
