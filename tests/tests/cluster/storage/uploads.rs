use buildit_shared::storage::{Checksum, Error, uploads::Content};
use buildit_tests::{api::client, s3};
use jiff::{SignedDuration, Timestamp};

use super::{send, upload};

fn content(bytes: &[u8]) -> Content {
    Content { size: bytes.len() as u64, checksum: Checksum::of(bytes) }
}

#[tokio::test]
async fn parts_at_signed_addresses_become_the_object() {
    let storage = s3::storage();
    for length in [0, 1, 8 << 20, (17 << 20) + 1] {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let (key, content) = (format!("staged/{length}"), content(&bytes));
        if length == 0 {
            let id = storage.begin_upload(&key, &content).await.unwrap();
            let etag = send(&storage, &key, &id, 1, 0, b"").await.headers()["etag"].to_str().unwrap().to_owned();
            storage.complete_upload(&key, &id, &[etag], &content).await.unwrap();
        } else {
            upload(&storage, &key, &content, &bytes).await;
        }
        assert!(storage.get(&key).await.unwrap() == bytes, "{length}");
        assert!(storage.is_complete(&key, &content).await.unwrap());
    }
}

#[tokio::test]
async fn an_address_takes_its_part_at_its_length_and_for_its_time() {
    let storage = s3::storage();
    let content = content(b"abc");
    let id = storage.begin_upload("a", &content).await.unwrap();
    for wrong in [&b"ab"[..], b"abcd", b""] {
        let answer = send(&storage, "a", &id, 1, 3, wrong).await;
        assert_eq!(answer.status(), 403, "{} bytes", wrong.len());
    }
    let expires = Timestamp::now() + SignedDuration::from_mins(1);
    let address = storage.part_address("a", &id, 1, 3, expires).await.unwrap();
    let put = async |address: &str| client().put(address).body("abc").send().await.unwrap().status().as_u16();
    assert_eq!(put(&address.as_str().replace("partNumber=1", "partNumber=2")).await, 403);
    assert_eq!(put(&address.as_str().replace("/a?", "/b?")).await, 403);
    assert_eq!(client().get(address.clone()).send().await.unwrap().status(), 403);
    assert_eq!(put(address.as_str()).await, 200);
    let short = storage.part_address("a", &id, 1, 3, Timestamp::now()).await.unwrap();
    buildit_tests::eventually("the address ends", std::time::Duration::from_secs(10), async || {
        put(short.as_str()).await == 403
    })
    .await;
}

#[tokio::test]
async fn every_call_of_an_upload_can_be_repeated() {
    let storage = s3::storage();
    let content = content(b"abc");
    let id = storage.begin_upload("a", &content).await.unwrap();
    assert!(storage.upload_is_open("a", &id).await.unwrap());
    let etag = async || send(&storage, "a", &id, 1, 3, b"abc").await.headers()["etag"].to_str().unwrap().to_owned();
    let (first, second) = (etag().await, etag().await);
    assert_eq!(first, second);
    for _ in 0..2 {
        storage.complete_upload("a", &id, std::slice::from_ref(&first), &content).await.unwrap();
    }
    assert!(!storage.upload_is_open("a", &id).await.unwrap());
    storage.abort_upload("a", &id).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), "abc");
}

#[tokio::test]
async fn what_is_not_all_there_is_no_object() {
    let storage = s3::storage();
    let content = content(b"abc");
    let id = storage.begin_upload("a", &content).await.unwrap();
    let complete = async |etags: &[&str]| {
        let etags: Vec<String> = etags.iter().map(|etag| (*etag).to_owned()).collect();
        storage.complete_upload("a", &id, &etags, &content).await
    };
    for etags in [&[][..], &["0123456789abcdef0123456789abcdef"], &["<>&\"'"], &["a", "b"]] {
        let completed = complete(etags).await;
        assert!(matches!(completed, Err(Error::Incomplete(_))), "{etags:?}: {completed:?}");
    }
    assert!(!storage.exists("a").await.unwrap());
    for _ in 0..2 {
        storage.abort_upload("a", &id).await.unwrap();
    }
    let gone = complete(&["0123456789abcdef0123456789abcdef"]).await;
    assert!(matches!(gone, Err(Error::NoUpload(_))), "{gone:?}");
    assert!(!storage.upload_is_open("a", &id).await.unwrap());
}
