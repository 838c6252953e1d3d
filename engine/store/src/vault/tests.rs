//! Tests of payloads: encryption, erasure, and links to artifacts.

use contracts::StoreError;
use uuid::Uuid;

use crate::error::Error;
use crate::testing::TestStore;
use crate::vault::payload;

#[tokio::test]
async fn a_payload_is_stored_encrypted_and_read_again() {
    let test = TestStore::new().await;
    let mut connection = test.store.pool.acquire().await.unwrap();
    let keys = &test.store.keys;
    let content = b"Doe^Jane";
    let first = payload::store(&mut connection, keys, None, "hl7", content).await.unwrap();
    let second = payload::store(&mut connection, keys, None, "hl7", content).await.unwrap();
    // The salt makes the same content two digests: the trail reveals nothing.
    assert_ne!(first.digest, second.digest);
    assert_eq!(payload::read(&mut connection, keys, first.id).await.unwrap().unwrap(), content);
    let in_plain_text = "payload where position(convert_to('Doe', 'UTF8') in sealed) > 0";
    assert_eq!(test.count(in_plain_text).await, 0);
    assert_eq!(test.count("payload_key").await, 1);
}

#[tokio::test]
async fn aud_06_destroying_a_key_erases_every_payload_of_it() {
    let test = TestStore::new().await;
    let mut connection = test.store.pool.acquire().await.unwrap();
    let keys = &test.store.keys;
    let stored = payload::store(&mut connection, keys, None, "hl7", b"text").await.unwrap();
    test.execute("update payload_key set wrapped = null, destroyed_at = now()").await;
    assert_eq!(payload::read(&mut connection, keys, stored.id).await.unwrap(), None);
    let existing = payload::read_existing(&mut connection, keys, stored.id).await;
    assert!(matches!(existing, Err(Error::Store(StoreError::Inconsistent(_)))));
}

#[tokio::test]
async fn a_changed_payload_is_not_read() {
    let test = TestStore::new().await;
    let mut connection = test.store.pool.acquire().await.unwrap();
    let keys = &test.store.keys;
    let stored = payload::store(&mut connection, keys, None, "hl7", b"text").await.unwrap();
    test.execute("update payload set sealed = set_byte(sealed, 20, 255 - get_byte(sealed, 20))")
        .await;
    assert!(payload::read(&mut connection, keys, stored.id).await.is_err());
    assert!(payload::read(&mut connection, keys, Uuid::nil()).await.is_err());
}
