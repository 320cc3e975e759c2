//! What the Helm chart allows: steps run with it, and there is nothing else that a worker may do in the cluster.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use buildit_tests::installation::Installation;
use serde_json::{Value, json};

/// Things that somebody with a worker's account would like to do, as `kubectl auth can-i` says them.
const REST: [&str; 18] = [
    "get secrets",
    "watch secrets",
    "update secrets",
    "get configmaps",
    "delete configmaps",
    "update pods",
    "patch pods",
    "create pods --subresource exec",
    "create pods --subresource attach",
    "create pods --subresource portforward",
    "create pods --subresource eviction",
    "create serviceaccounts --subresource token",
    "create deployments.apps",
    "create roles.rbac.authorization.k8s.io",
    "create rolebindings.rbac.authorization.k8s.io",
    "list nodes",
    "list namespaces",
    "create pods --namespace default",
];

pub(crate) fn dev(arguments: &[&str], input: &[u8]) -> Output {
    let dev = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dev");
    let mut child = Command::new(dev)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("./dev starts");
    child.stdin.take().expect("its input").write_all(input).expect("it reads");
    child.wait_with_output().expect("it ends")
}

pub(crate) fn printed(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = dev(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A kubeconfig of the worker's service account.
fn kubeconfig(installation: &Installation, account: &str) -> String {
    let config = printed(&["cluster", "kubectl", "config", "view", "--raw", "--flatten", "--output", "json"], b"");
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["users"][0]["user"]["as"] = json!(account);
    let path = installation.folder.path().join("worker.kubeconfig");
    fs::write(&path, config.to_string()).unwrap();
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_runs_steps_with_what_the_chart_allows_and_may_do_nothing_else() {
    let installation = Installation::on_cluster().await;
    let namespace = installation.cluster().namespace.clone();
    let values = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart/ci/least.yaml");
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart");
    let (values, chart) = (values.to_string_lossy(), chart.to_string_lossy());
    let steps = format!("steps.namespace={namespace},steps.createNamespace=false,fullnameOverride=ci");
    let manifest = printed(
        &["helm", "template", "ci", &chart, "--namespace", &namespace, "--values", &values, "--set", &steps]
            .into_iter()
            .chain(["--show-only", "templates/steps.yaml", "--kube-version", "1.34"])
            .collect::<Vec<_>>(),
        b"",
    );
    printed(&["cluster", "kubectl", "apply", "--filename", "-"], &manifest);
    let account = format!("system:serviceaccount:{namespace}:ci-worker");
    let kubeconfig = kubeconfig(&installation, &account);
    let worker =
        installation.worker_with(&[("KUBECONFIG", &kubeconfig), ("BUILDIT_KUBERNETES_SERVICE_ACCOUNT", "ci-steps")]);

    let file = "
pipeline:
  steps:
    - { name: one, image: buildit.test/busybox:1, commands: [echo made > file], outputs: [file] }
    - { name: two, image: buildit.test/busybox:1, commands: [cat file] }
";
    let project = installation.project("web", &[(".platform.yaml", file)]).await;
    let run = installation.trigger(&project).await;
    let run = installation.ended(&run).await;
    assert_eq!(run["status"], "success", "{run:#}; {}", worker.said());
    installation.cluster().is_empty().await;
    assert!(!worker.said().contains("orbidden"), "{}", worker.said());

    for wish in REST {
        let mut question = vec!["cluster", "kubectl", "auth", "can-i", "--as", &account];
        if !wish.contains("--namespace") {
            question.extend(["--namespace", &namespace]);
        }
        question.extend(wish.split(' '));
        let answer = dev(&question, b"");
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "no", "{wish}");
    }
}
