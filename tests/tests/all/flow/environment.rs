//! What a step finds around it.

use buildit_tests::installation::git;
use serde_json::json;

use super::{id, run_of, started, step};

#[tokio::test(flavor = "multi_thread")]
async fn a_step_finds_its_checkout_and_the_platforms_variables() {
    let (installation, _worker) = started().await;
    let file = "
pipeline:
  name: shown
  variables: { profile: ci }
  steps:
    - name: look
      image: debian
      environment: { LEVEL: '${custom.profile}-${env.BASE}', BASE: deep, CI: 'no', COMMIT_SHA: mine }
      commands:
        - env
        - 'echo cwd-files: $(ls -A | tr \"\\n\" \" \")'
        - 'echo head: $(git log -1 --format=%H:%s) on $(git branch --show-current)'
        - 'echo clean: [$(git status --porcelain)]'
        - 'echo values: ${git.short_sha} ${git.branch} ${git.ref} ${git.author} ${pipeline.name} ${run.number} ${step.name} ${stage.index} ${env.LEVEL}'
";
    let (project, run) = run_of(&installation, "environment", file).await;
    let log = installation.log(id(&run), "look").await;
    assert_eq!(run["status"], "success", "{run:#} {log}");
    let sha = run["commit_sha"].as_str().unwrap();
    let (_, view) = installation.get(&format!("/api/v1/projects/{}", project.name)).await;
    let expected = [
        format!("PLATFORM_PROJECT_ID={}", view["id"].as_str().unwrap()),
        "PLATFORM_PROJECT_NAME=environment".into(),
        format!("COMMIT_SHA={sha}"),
        "COMMIT_REF=refs/heads/main".into(),
        "COMMIT_BRANCH=main".into(),
        format!("PIPELINE_ID={}", id(&run)),
        "STEP_NAME=look".into(),
        "REGISTRY=localhost:5000".into(),
        "PROJECT=environment".into(),
        "CI=true".into(),
        "LEVEL=ci-deep".into(),
        "cwd-files: .git .platform.yaml".into(),
        format!("head: {sha}:a change on main"),
        "clean: []".into(),
        format!("values: {} main refs/heads/main A <a@example.org> shown 1 look 0 ci-deep", &sha[..7]),
    ];
    for line in expected {
        assert!(log.lines().any(|logged| logged.trim_end() == line), "{line} in {log}");
    }
    for foreign in ["DATABASE_URL", "BUILDIT_SIGNING_KEY", "BUILDIT_DATA_DIR"] {
        assert!(!log.contains(foreign), "the worker's own environment is not the step's: {log}");
    }
    assert_eq!(step(&run, "look")["status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_branch_and_message_are_just_text() {
    let (installation, _worker) = started().await;
    let mark = installation.shared.join("owned");
    let file = "
pipeline:
  steps:
    - name: say
      image: debian
      environment: { MESSAGE: '${git.message}' }
      commands:
        - echo plain ${git.branch}
        - 'echo \"double ${git.branch} ${git.message}\"'
        - \"echo 'single ${git.branch} ${git.message}'\"
        - 'printf \"%s\\n\" \"$MESSAGE\" > message.txt; printf \"%s\\n\" \"${git.message}\" | cmp - message.txt'
        - 'git log -1 --format=%B | head -n 1 | cmp - message.txt'
";
    let project = installation.project("hostile", &[(".platform.yaml", file)]).await;
    let touch = format!("touch${{IFS}}{}", mark.display());
    let branch = format!("x$({touch});`{touch}`&'\"{touch}");
    let message =
        format!("a $(touch {0}) `touch {0}`; touch {0} \\ ' \" ${{git.sha}} ${{secrets.X}} %s $HOME", mark.display());
    git(project.work(), &["commit", "-q", "--allow-empty", "-m", &message]);
    project.push(&[&format!("HEAD:refs/heads/{branch}")]);
    let run = installation.trigger_at(&project, &format!("refs/heads/{branch}")).await;
    let run = installation.ended(&run).await;
    let log = installation.log(id(&run), "say").await;
    assert_eq!(run["status"], "success", "{run:#} {log}");
    assert!(!mark.exists(), "nothing of it was carried out");
    assert_eq!(run["commit_message"].as_str().unwrap(), message);
    for quoted in ["double", "single"] {
        assert!(log.contains(&format!("\n{quoted} {branch} {message}\n")), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn branches_whose_names_mean_something_else_to_git_are_run() {
    let (installation, worker) = started().await;
    let file = "
pipeline:
  steps: [{ name: say, image: debian, commands: ['test \"$COMMIT_BRANCH\" = \"${git.branch}\"', git log -1 --format=%H] }]
";
    let project = installation.project("odd", &[(".platform.yaml", file)]).await;
    for branch in ["HEAD", "@", "FETCH_HEAD", "-q", "refs/heads/main"] {
        let git_ref = format!("refs/heads/{branch}");
        git(&project.repository, &["update-ref", &git_ref, "main"]);
        let run = installation.trigger_at(&project, &git_ref).await;
        let run = installation.ended(&run).await;
        assert_eq!((&run["status"], &run["branch"]), (&json!("success"), &json!(branch)), "{run:#} {}", worker.said());
    }
}
