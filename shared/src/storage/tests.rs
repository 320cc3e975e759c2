//! The store, on files; what S3 does is tested against a real one.

use super::*;

fn store() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new("http://localhost:30080".parse().unwrap(), b"secret");
    let storage = Storage::files(&folder.path().join("objects"), signer).unwrap();
    (folder, storage)
}

async fn read(storage: &Storage, key: &str, range: Range<u64>) -> Vec<u8> {
    let object = storage.stat(key).await.unwrap();
    let pieces: Vec<Bytes> = storage.read(&object, range).await.unwrap().try_collect().await.unwrap();
    pieces.concat()
}

#[tokio::test]
async fn an_object_is_read_whole_and_in_part() {
    let (folder, storage) = store();
    storage.check().await.unwrap();
    storage.put("logs/a.log", &b"0123456789"[..]).await.unwrap();
    assert_eq!(storage.get("logs/a.log").await.unwrap(), &b"0123456789"[..]);
    assert_eq!(storage.size("logs/a.log").await.unwrap(), 10);
    assert_eq!(read(&storage, "logs/a.log", 3..7).await, b"3456");
    assert_eq!(std::fs::read(storage.local_path("logs/a.log").unwrap()).unwrap(), b"0123456789");
    let copy = folder.path().join("copy");
    assert_eq!(storage.get_file("logs/a.log", &copy).await.unwrap(), 10);
    assert_eq!(std::fs::read(copy).unwrap(), b"0123456789");
}

#[tokio::test]
async fn a_file_larger_than_a_piece_arrives_whole_and_copies() {
    let (folder, storage) = store();
    let bytes: Vec<u8> = (0..PIECE * 2 + 17).map(|n| n as u8).collect();
    let path = folder.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(storage.put_file("a", &path).await.unwrap(), (bytes.len() as u64, Checksum::of(&bytes)));
    storage.copy("a", "b/c", bytes.len() as u64).await.unwrap();
    assert_eq!(storage.get("b/c").await.unwrap(), bytes);
    assert_eq!(read(&storage, "b/c", 5..bytes.len() as u64).await, bytes[5..]);
}

#[tokio::test]
async fn a_source_that_breaks_off_leaves_no_object() {
    let (_folder, storage) = store();
    let pieces = [Ok(Bytes::from_static(b"begun")), Err(std::io::Error::other("gone"))];
    let source = tokio_util::io::StreamReader::new(futures::stream::iter(pieces));
    let put = storage.put_reader("a", source, 5, Checksum::of(b"begun")).await;
    assert!(matches!(put, Err(Error::Source(_))));
    assert!(!storage.exists("a").await.unwrap());
}

#[tokio::test]
async fn a_source_of_other_bytes_than_were_promised_changes_nothing() {
    let (_folder, storage) = store();
    storage.put("a", &b"before"[..]).await.unwrap();
    for (source, length) in [(&b"other"[..], 5), (b"promised", 7), (b"promised and more", 8)] {
        let put = storage.put_reader("a", source, length, Checksum::of(b"promised")).await;
        assert!(matches!(put, Err(Error::Corrupt { .. })), "{put:?}");
    }
    assert_eq!(storage.get("a").await.unwrap(), "before");
    storage.put_reader("a", &b"promised"[..], 8, Checksum::of(b"promised")).await.unwrap();
    assert_eq!(storage.get("a").await.unwrap(), "promised");
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let (_folder, storage) = store();
    storage.put("folder/file", &b"x"[..]).await.unwrap();
    for key in ["nothing", "folder"] {
        assert!(!storage.exists(key).await.unwrap(), "{key}");
    }
    assert!(matches!(storage.get("nothing").await, Err(Error::NotFound(_))));
    storage.delete("nothing").await.unwrap();
    storage.delete_all("folder").await.unwrap();
    assert!(!storage.exists("folder/file").await.unwrap());
}

#[tokio::test]
async fn no_key_leads_out_of_the_store() {
    let (folder, storage) = store();
    std::fs::write(folder.path().join("outside"), "x").unwrap();
    assert!(matches!(storage.get("../outside").await, Err(Error::InvalidKey(_))));
    assert!(matches!(storage.put("../outside", &b""[..]).await, Err(Error::InvalidKey(_))));
    assert!(matches!(storage.copy("../outside", "a", 1).await, Err(Error::InvalidKey(_))));
    assert_eq!(storage.local_path("../outside"), None);
}
