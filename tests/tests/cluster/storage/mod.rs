//! Objects in a real S3.

mod objects;
mod runner;
mod runs;
mod uploads;

use buildit_shared::storage::{Storage, uploads::Content};
use buildit_tests::api::client;
use jiff::{SignedDuration, Timestamp};
use reqwest::Response;

/// Sends a part to its address.
async fn send(storage: &Storage, key: &str, upload: &str, number: u32, size: u64, bytes: &[u8]) -> Response {
    let expires = Timestamp::now() + SignedDuration::from_mins(1);
    let address = storage.part_address(key, upload, number, size, expires).await.unwrap();
    client().put(address).body(bytes.to_vec()).send().await.unwrap()
}

/// Uploads bytes under whatever they are said to be, and completes.
async fn upload(storage: &Storage, key: &str, content: &Content, bytes: &[u8]) {
    let upload = storage.begin_upload(key, content).await.unwrap();
    let mut etags = Vec::new();
    for (index, part) in bytes.chunks(usize::try_from(content.part_size()).unwrap()).enumerate() {
        let number = u32::try_from(index + 1).unwrap();
        let answer = send(storage, key, &upload, number, part.len() as u64, part).await;
        assert_eq!(answer.status(), 200);
        etags.push(answer.headers()["etag"].to_str().unwrap().to_owned());
    }
    storage.complete_upload(key, &upload, &etags, content).await.unwrap();
}
