use std::ops::Range;

use buildit_shared::storage::{Checksum, Error, S3Settings, Storage, uploads::Content};
use buildit_tests::{api::client, s3};
use bytes::Bytes;
use futures::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

async fn read(storage: &Storage, key: &str, range: Range<u64>) -> Vec<u8> {
    let object = storage.stat(key).await.unwrap();
    let pieces: Vec<Bytes> = storage.read(&object, range).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

fn soon(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn an_object_comes_back_whole_and_in_part_with_its_checksum() {
    let storage = s3::storage();
    storage.check().await.unwrap();
    storage.put("logs/ä b+c.log", &b"0123456789"[..]).await.unwrap();
    let object = storage.stat("logs/ä b+c.log").await.unwrap();
    assert_eq!((object.size, object.checksum), (10, Some(Checksum::of(b"0123456789"))));
    assert_eq!(storage.get("logs/ä b+c.log").await.unwrap(), &b"0123456789"[..]);
    assert_eq!(read(&storage, "logs/ä b+c.log", 3..7).await, b"3456");
    assert_eq!(storage.local_path("logs/ä b+c.log"), None);
    storage.put("empty", &b""[..]).await.unwrap();
    assert_eq!(storage.get("empty").await.unwrap(), &b""[..]);
    assert!(matches!(storage.get("nothing").await, Err(Error::NotFound(_))));
    assert!(!storage.exists("logs").await.unwrap());
}

#[tokio::test]
async fn a_large_file_goes_in_parts_and_copies_with_its_checksum() {
    let storage = s3::storage();
    let folder = tempfile::tempdir().unwrap();
    let (path, back) = (folder.path().join("file"), folder.path().join("back"));
    let bytes = bytes((20 << 20) + 17);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(storage.put_file("large", &path).await.unwrap(), (bytes.len() as u64, Checksum::of(&bytes)));
    storage.copy("large", "copies/large", bytes.len() as u64).await.unwrap();
    for key in ["large", "copies/large"] {
        assert_eq!(storage.stat(key).await.unwrap().checksum, Some(Checksum::of(&bytes)), "{key}");
        assert_eq!(storage.get_file(key, &back).await.unwrap(), bytes.len() as u64);
        assert!(std::fs::read(&back).unwrap() == bytes, "{key}");
    }
    let middle = (8 << 20) - 5..(8 << 20) + 5;
    let expected = &bytes[middle.start as usize..middle.end as usize];
    assert_eq!(read(&storage, "large", middle).await, expected);
}

#[tokio::test]
async fn what_breaks_off_or_is_not_what_was_promised_leaves_no_object() {
    let storage = s3::storage();
    let large = bytes(20 << 20);
    for length in [5, large.len()] {
        let promised = Checksum::of(&large[..length]);
        let pieces = [Ok(Bytes::copy_from_slice(&large[..length - 1])), Err(std::io::Error::other("gone"))];
        let source = tokio_util::io::StreamReader::new(futures::stream::iter(pieces));
        let put = storage.put_reader("a", source, length as u64, promised).await;
        assert!(matches!(put, Err(Error::Source(_))), "{put:?}");
        let put = storage.put_reader("a", &large[..length - 1], length as u64, promised).await;
        assert!(matches!(put, Err(Error::Corrupt { .. })), "{put:?}");
    }
    assert!(!storage.exists("a").await.unwrap());
}

#[tokio::test]
async fn other_bytes_under_a_checksum_are_noticed_and_named() {
    let storage = s3::storage();
    let folder = tempfile::tempdir().unwrap();
    // As a broken disk would, or a runner that does not say the truth.
    let said = Content { size: 16, checksum: Checksum::of(b"as it was stored") };
    super::upload(&storage, "logs/a.log", &said, b"is not as it was").await;
    for error in [
        storage.get("logs/a.log").await.unwrap_err(),
        storage.get_file("logs/a.log", &folder.path().join("a")).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains("logs/a.log"), "{error}");
    }
    assert_eq!(read(&storage, "logs/a.log", 3..6).await, b"not", "a part cannot be compared");
}

#[tokio::test]
async fn all_below_a_name_goes_and_nothing_beside_it() {
    let storage = s3::storage();
    for key in ["staged/1/a", "staged/1/b/c", "staged/10/a", "kept"] {
        storage.put(key, &b"x"[..]).await.unwrap();
    }
    storage.delete_all("staged/1").await.unwrap();
    for (key, there) in [("staged/1/a", false), ("staged/1/b/c", false), ("staged/10/a", true), ("kept", true)] {
        assert_eq!(storage.exists(key).await.unwrap(), there, "{key}");
    }
    storage.delete("kept").await.unwrap();
    storage.delete("kept").await.unwrap();
    assert!(!storage.exists("kept").await.unwrap());
}

#[tokio::test]
async fn a_link_needs_no_key_has_a_name_and_ends() {
    let storage = s3::storage();
    storage.put("artifacts/ä b.txt", &b"0123456789"[..]).await.unwrap();
    let link = storage.link("artifacts/ä b.txt", soon(60), Some("ä b.txt")).await.unwrap();
    let answer = client().get(link.clone()).header("range", "bytes=2-3").send().await.unwrap();
    assert_eq!(answer.status(), 206);
    let disposition = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert_eq!(disposition, "attachment; filename=\"_ b.txt\"; filename*=UTF-8''%C3%A4%20b.txt");
    assert_eq!(answer.text().await.unwrap(), "23");

    let changed = link.as_str().replace("attachment", "inline");
    assert_eq!(client().get(changed).send().await.unwrap().status(), 403);
    let log = storage.link("artifacts/ä b.txt", soon(1), None).await.unwrap();
    let answer = client().get(log.clone()).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    buildit_tests::eventually("the link ends", std::time::Duration::from_secs(10), async || {
        client().get(log.clone()).send().await.unwrap().status() == 403
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_used_says_why() {
    let settings = s3::settings();
    let why = async |settings: S3Settings| Storage::s3(settings).unwrap().check().await.unwrap_err();
    let no_bucket = why(S3Settings { bucket: "there-is-no-such-bucket".into(), ..settings.clone() }).await;
    assert!(matches!(&no_bucket, Error::Misconfigured(why) if why.contains("there-is-no-such-bucket")), "{no_bucket}");
    let mut wrong = settings.clone();
    wrong.access_key.as_mut().unwrap().secret = "another secret".into();
    let refused = why(wrong).await;
    assert!(matches!(refused, Error::Misconfigured(_)), "{refused}");
    assert!(!refused.to_string().contains("another secret"), "{refused}");
    let away = why(s3::at(&settings, "http://127.0.0.1:1".parse().unwrap())).await;
    assert!(away.is_passing(), "{away}");
}
