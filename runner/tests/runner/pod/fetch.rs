//! Checkout and inputs.

use std::fs;
use std::sync::Arc;

use buildit_runner::Outcome;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::place::{Pod, archive};
use super::server::Fault::{Cut, NoAnswer, Status};

fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    (0..bytes).map(|_| next()).collect()
}

fn pod() -> Pod {
    let large = noise(300_000);
    let checkout = archive(&[("a", "checkout"), ("deep/large", &large), ("b", "checkout")]);
    let inputs = [archive(&[("b", "first"), ("c", "first")]), archive(&[("c", "second\n")])];
    let [first, second] = inputs;
    Pod::of(&["cat a b c; wc -c <deep/large"]).with_archives(vec![checkout, first, second])
}

fn assert_all_there(pod: &Pod) {
    let left = pod.run();
    assert_eq!(left.exit, Some(0), "{}", left.errors);
    assert!(left.printed.ends_with("\ncheckoutfirstsecond\n300000\n"), "{}", left.printed);
}

#[test]
fn inputs_are_laid_over_the_checkout_in_order() {
    let pod = pod();
    assert_all_there(&pod);
    assert_eq!(pod.server.seen("/archive-0"), 1);
}

#[test]
fn connections_that_break_off_cost_nothing_but_time() {
    let pod = pod();
    pod.server.fail("/archive-0", &[Cut(0), Cut(100_000), NoAnswer, Status(503)]);
    pod.server.fail("/archive-2", &[Cut(10)]);
    assert_all_there(&pod);
    assert_eq!((pod.server.seen("/archive-0"), pod.server.seen("/archive-1")), (5, 1));
}

#[test]
fn an_address_that_has_expired_is_asked_for_anew() {
    let pod = pod();
    pod.server.fail("/archive-1", &[Status(403)]);
    assert_all_there(&pod);
    assert_eq!(pod.server.seen("/begin"), 2);
}

#[test]
fn a_checkout_that_is_gone_is_a_failed_setup() {
    let pod = pod();
    pod.server.fail("/archive-0", &[Status(404); 10]);
    let left = pod.run();
    let Some(Outcome::SetupFailed { message }) = left.told.map(|report| report.outcome) else { panic!() };
    assert_eq!(message, "The checkout: the storage refuses it with status 404: {\"error\":{\"message\":\"as told\"}}");
    assert_eq!(left.exit, Some(1));
}

#[test]
fn what_is_no_archive_is_not_fetched_again_and_again() {
    let pod = pod();
    pod.known().archives[1] = b"no archive".to_vec();
    let left = pod.run();
    let Some(Outcome::SetupFailed { message }) = left.told.map(|report| report.outcome) else { panic!() };
    assert!(message.starts_with("Input 1 of 2: the archive cannot be read"), "{message}");
    assert_eq!(pod.server.seen("/archive-1"), 1);
}

#[test]
fn nothing_is_unpacked_outside_of_the_workspace() {
    let mut evil = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1).unwrap());
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..7].copy_from_slice(b"../evil");
    header.set_size(0);
    header.set_cksum();
    evil.append(&header, std::io::empty()).unwrap();
    let evil = evil.into_inner().unwrap().finish().unwrap();
    let pod = Pod::of(&["true"]).with_archives(vec![evil]);
    let outcome = pod.run().told.unwrap().outcome;
    assert_eq!(outcome, Outcome::SetupFailed { message: "The checkout: ../evil: '..' in the path".to_owned() });
    assert!(!pod.workspace("../evil").exists());
}

/// A private authority's PEM, and a server that has its certificate for `localhost`.
fn authority() -> (String, Arc<rustls::ServerConfig>) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    (pem, Arc::new(config))
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let (pem, tls) = authority();
    let mut pod = Pod::with_tls(&["cat a"], Some(tls)).with_archives(vec![archive(&[("a", "by tls\n")])]);
    pod.spec.ca = Some(pem);
    let left = pod.run();
    assert_eq!(left.exit, Some(0), "{}", left.errors);
    assert!(left.printed.ends_with("by tls\n"));
    assert_eq!(pod.known().objects["log"], left.printed.as_bytes());
}

#[test]
fn a_stranger_with_a_certificate_of_his_own_is_not() {
    let (_, tls) = authority();
    let mut pod = Pod::with_tls(&["true"], Some(tls));
    pod.spec.ca = Some(authority().0);
    pod.spec.begin_limit_ms = 200;
    let left = pod.run();
    assert_eq!((left.exit, pod.known().runner.is_none()), (Some(4), true));
    assert!(left.errors.contains("certificate"), "{}", left.errors);
}

#[test]
fn the_program_installs_itself() {
    let folder = tempfile::tempdir().unwrap();
    let install =
        || std::process::Command::new(env!("CARGO_BIN_EXE_buildit-runner")).arg("install").arg(folder.path()).status();
    assert!(install().unwrap().success());
    assert!(install().unwrap().success(), "also where it is already");
    let installed = folder.path().join("buildit-runner");
    assert!(fs::read(&installed).unwrap() == fs::read(env!("CARGO_BIN_EXE_buildit-runner")).unwrap());
    assert!(std::process::Command::new(installed).arg("--version").status().unwrap().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
