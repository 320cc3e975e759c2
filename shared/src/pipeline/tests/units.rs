//! Durations, quantities and image names.

use crate::pipeline::units::{cpu_millis, duration, image_problem, memory_bytes};

#[test]
fn durations_are_numbers_with_falling_units() {
    let seconds = |text| duration(text).map(|duration| duration.as_secs());
    for (text, expected) in
        [("45s", 45), ("30m", 1800), ("1h30m", 5400), ("7d", 604_800), ("1d2h3m4s", 93_784), ("0s", 0), ("90m", 5400)]
    {
        assert_eq!(seconds(text), Some(expected), "{text}");
    }
    for text in ["", "30", "m", "30 m", "30m1h", "1m1m", "-1s", "1.5h", "1w", "9999999999999999999d"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn quantities_are_those_of_kubernetes() {
    for (text, millis) in [("2", 2000), ("0.5", 500), ("500m", 500), ("1.25", 1250), ("0.001", 1)] {
        assert_eq!(cpu_millis(text), Some(millis), "{text}");
    }
    for text in ["", "two", "-1", "1.", ".5", "1.2345", "2 ", "1e3", "0.5m"] {
        assert_eq!(cpu_millis(text), None, "{text}");
    }
    for (text, bytes) in [("2Gi", 2 << 30), ("512Mi", 512 << 20), ("1G", 1_000_000_000), ("7", 7)] {
        assert_eq!(memory_bytes(text), Some(bytes), "{text}");
    }
    for text in ["", "Gi", "2GB", "2gi", "1.5Gi", "-1", "99999999999Ti"] {
        assert_eq!(memory_bytes(text), None, "{text}");
    }
}

#[test]
fn image_names_are_those_of_registries() {
    let hex = "a".repeat(64);
    for image in [
        "rust",
        "rust:1.95-slim",
        "library/rust",
        "gcr.io/kaniko-project/executor:v1.23.2",
        "localhost:5000/a/b:c",
        "localhost/app",
        "10.244.0.1:5000/web:0123",
        &format!("alpine@sha256:{hex}"),
        &format!("docker.io/library/alpine:3@sha256:{hex}"),
        "a__b/c-d.e",
    ] {
        assert_eq!(image_problem(image), None, "{image}");
    }
    for image in [
        "",
        "Rust",
        "rust:",
        "rust:a b",
        "rust:feature/x",
        "/rust",
        "rust/",
        "a//b",
        "rust@sha256:1",
        "rust;true",
        "rust:-x",
        "http://host/x",
        "ex ample/x",
        "-rust",
        "$(x)",
    ] {
        assert!(image_problem(image).is_some(), "{image}");
    }
}
