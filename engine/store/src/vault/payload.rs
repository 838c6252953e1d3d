//! Payloads: content that identifies a patient, encrypted with a key of that patient (AUD-06).
//!
//! Each patient has a key, itself encrypted with the key of the site. Destroying the key of a
//! patient erases all of their payloads at once. The trail names a payload by a salted digest,
//! which proves its content without revealing it.

use std::collections::HashMap;

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use contracts::StoreError;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::error::{Error, Result, inconsistent};
use crate::vault::keys::Keys;

/// Length of the nonce that makes a ciphertext unique (NIST SP 800-38D).
const NONCE_BYTES: usize = 12;

/// Length of the salt that keeps a digest from being guessed.
const SALT_BYTES: usize = 16;

/// A stored payload, and the digest by which the trail names it.
pub(crate) struct StoredPayload {
    pub(crate) id: Uuid,
    /// SHA-256 of salt and content, in hex. The salt is encrypted with the content.
    pub(crate) digest: String,
}

/// The key with which the payloads of a patient are encrypted.
pub(crate) struct PayloadKey {
    pub(crate) id: Uuid,
    key: [u8; 32],
}

impl PayloadKey {
    /// Decrypts a key, which is stored encrypted with the key of the site.
    pub(crate) fn open(keys: &Keys, id: Uuid, wrapped: &[u8]) -> Result<Self> {
        let key = decrypt(&keys.payload, wrapped)?.try_into();
        Ok(Self { id, key: key.map_err(|_| inconsistent("a payload key has the wrong length"))? })
    }
}

/// Encrypts `content` with the key of `patient` and stores it.
pub(crate) async fn store(
    connection: &mut PgConnection,
    keys: &Keys,
    patient: Option<Uuid>,
    kind: &str,
    content: &[u8],
) -> Result<StoredPayload> {
    let key = key_of(connection, keys, patient).await?;
    let salted = salted(content)?;
    let digest = hex::encode(Sha256::digest(&salted));
    let id = Uuid::now_v7();
    sqlx::query("insert into payload (id, key, kind, sealed) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(key.id)
        .bind(kind)
        .bind(encrypt(&key.key, &salted)?)
        .execute(connection)
        .await?;
    Ok(StoredPayload { id, digest })
}

/// `content` as it is stored: salted and encrypted.
pub(crate) fn encrypted(key: &PayloadKey, content: &[u8]) -> Result<Vec<u8>> {
    encrypt(&key.key, &salted(content)?)
}

fn salted(content: &[u8]) -> Result<Vec<u8>> {
    Ok([random::<SALT_BYTES>()?.as_slice(), content].concat())
}

/// The content of a payload. `None` if its key was destroyed, or retention has removed it.
pub(crate) async fn read(
    connection: &mut PgConnection,
    keys: &Keys,
    id: Uuid,
) -> Result<Option<Vec<u8>>> {
    Ok(rows(connection, keys, &[id]).await?.remove(&id).flatten())
}

/// The contents of several payloads, each of which must still be there.
pub(crate) async fn read_all_existing(
    connection: &mut PgConnection,
    keys: &Keys,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<u8>>> {
    let rows = rows(connection, keys, ids).await?;
    rows.into_iter().map(|(id, content)| Ok((id, content.ok_or_else(removed)?))).collect()
}

#[derive(sqlx::FromRow)]
struct PayloadRow {
    id: Uuid,
    /// Nothing once retention has removed the content.
    sealed: Option<Vec<u8>>,
    key: Uuid,
    /// Nothing once the key was destroyed.
    wrapped: Option<Vec<u8>>,
}

async fn rows(
    connection: &mut PgConnection,
    keys: &Keys,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Option<Vec<u8>>>> {
    let rows: Vec<PayloadRow> = sqlx::query_as(
        "select p.id, p.sealed, k.id as key, k.wrapped from payload p join payload_key k on k.id = p.key
         where p.id = any($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let mut all = HashMap::new();
    for row in rows {
        let content = match row.sealed.zip(row.wrapped) {
            Some((sealed, wrapped)) => {
                Some(decrypted(&PayloadKey::open(keys, row.key, &wrapped)?, &sealed)?)
            }
            None => None,
        };
        all.insert(row.id, content);
    }
    if ids.iter().any(|it| !all.contains_key(it)) {
        return Err(inconsistent("a payload is missing"));
    }
    Ok(all)
}

fn decrypted(key: &PayloadKey, sealed: &[u8]) -> Result<Vec<u8>> {
    let mut salted = decrypt(&key.key, sealed)?;
    if salted.len() < SALT_BYTES {
        return Err(inconsistent("a payload has no salt"));
    }
    Ok(salted.split_off(SALT_BYTES))
}

/// The content of a payload that must still be there.
pub(crate) async fn read_existing(
    connection: &mut PgConnection,
    keys: &Keys,
    id: Uuid,
) -> Result<Vec<u8>> {
    let content = read(connection, keys, id).await?;
    content.ok_or_else(removed)
}

/// Records that a payload refers to these artifact files, so that retention spares them.
pub(crate) async fn link_artifacts(
    tx: &mut PgConnection,
    payload: Uuid,
    artifacts: &[&str],
) -> Result<()> {
    sqlx::query(
        "insert into artifact_use (sha256, payload) select unnest($1::text[]), $2
         on conflict do nothing",
    )
    .bind(artifacts)
    .bind(payload)
    .execute(tx)
    .await?;
    Ok(())
}

fn removed() -> Error {
    inconsistent("a payload was removed: its key was destroyed, or its retention term has expired")
}

async fn key_of(
    connection: &mut PgConnection,
    keys: &Keys,
    patient: Option<Uuid>,
) -> Result<PayloadKey> {
    let fresh = random::<32>()?;
    sqlx::query(
        "insert into payload_key (id, patient, wrapped) values ($1, $2, $3) on conflict do nothing",
    )
    .bind(Uuid::now_v7())
    .bind(patient)
    .bind(encrypt(&keys.payload, &fresh)?)
    .execute(&mut *connection)
    .await?;
    let (id, wrapped): (Uuid, Vec<u8>) = sqlx::query_as(
        "select id, wrapped from payload_key
         where patient is not distinct from $1 and destroyed_at is null",
    )
    .bind(patient)
    .fetch_one(connection)
    .await?;
    PayloadKey::open(keys, id, &wrapped)
}

fn encrypt(key: &[u8; 32], content: &[u8]) -> Result<Vec<u8>> {
    let nonce = random::<NONCE_BYTES>()?;
    let cipher = Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(key));
    let sealed = cipher.encrypt(Nonce::from_slice(&nonce), content);
    let sealed = sealed.map_err(|_| inconsistent("a payload is too long"))?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(key: &[u8; 32], sealed: &[u8]) -> Result<Vec<u8>> {
    let wrong = || inconsistent("a payload was changed, or this is not its key");
    let (nonce, content) = sealed.split_at_checked(NONCE_BYTES).ok_or_else(wrong)?;
    let cipher = Aes256Gcm::new(Key::<Aes256Gcm>::from_slice(key));
    cipher.decrypt(Nonce::from_slice(nonce), content).map_err(|_| wrong())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::Database(Box::new(std::io::Error::other(error.to_string())))
    })?;
    Ok(bytes)
}
