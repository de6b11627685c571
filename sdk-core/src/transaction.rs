//! Transactions: reads that remember their versions, writes that wait for the end, one commit that
//! the server aborts if a document read has changed since. [`Client::transaction`] repeats it then.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;
use tidemark_protocol::model::{Code, DocumentPath, Precondition, Read, Version, Write, WriteOp};

use crate::client::Client;
use crate::convert::to_fields;
use crate::engine::Source;
use crate::error::Error;
use crate::reference::DocumentRef;
use crate::snapshot::DocumentSnapshot;
use crate::write::{self, FieldValue};

const ATTEMPTS: u32 = 5;
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// One attempt of a transaction. All reads come before the first write. Its writes take no local
/// effect before the server has committed them.
#[derive(Clone)]
pub struct Transaction {
    client: Client,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Set by reads; a document read twice keeps its first version.
    reads: BTreeMap<DocumentPath, Version>,
    /// Set by writes, taken at the end.
    writes: Vec<Write>,
}

impl Transaction {
    fn new(client: Client) -> Transaction {
        Transaction { client, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic happens while a transaction's state is locked")
    }

    /// The document as the server has it, without this client's pending writes.
    /// `invalid-argument` after a write; `aborted` when it has changed since an earlier read.
    pub async fn get(&self, doc: &DocumentRef) -> Result<DocumentSnapshot, Error> {
        if !self.state().writes.is_empty() {
            return Err(Error::invalid("a transaction reads before it writes"));
        }
        let mut found =
            self.client.get_paths(vec![doc.path().clone()], false, Source::Server).await?;
        let snapshot = found
            .documents
            .pop()
            .ok_or_else(|| Error::new(Code::Internal, "the server answered with nothing"))?;
        let version = snapshot.update_version();
        let first = *self.state().reads.entry(doc.path().clone()).or_insert(version);
        if first == version {
            Ok(snapshot)
        } else {
            Err(Error::new(Code::Aborted, format!("{} has changed since it was read", doc.path())))
        }
    }

    fn push(&self, write: Write) {
        self.state().writes.push(write);
    }

    /// Replaces the document.
    pub fn set<T: Serialize + ?Sized>(&self, doc: &DocumentRef, value: &T) -> Result<(), Error> {
        self.push(write::set(doc.path(), to_fields(value)?));
        Ok(())
    }

    /// Creates the document; the transaction fails if it exists.
    pub fn create<T: Serialize + ?Sized>(&self, doc: &DocumentRef, value: &T) -> Result<(), Error> {
        self.push(write::create(doc.path(), to_fields(value)?));
        Ok(())
    }

    /// Creates the document or merges these fields into it.
    pub fn set_merge<T: Serialize + ?Sized>(
        &self,
        doc: &DocumentRef,
        value: &T,
    ) -> Result<(), Error> {
        self.push(write::merge(doc.path(), to_fields(value)?)?);
        Ok(())
    }

    /// Changes fields of the document; the transaction fails if it does not exist.
    pub fn update<K, V>(
        &self,
        doc: &DocumentRef,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error>
    where
        K: AsRef<str>,
        V: Into<FieldValue>,
    {
        self.push(write::update(doc.path(), fields, Precondition::Exists(true))?);
        Ok(())
    }

    /// Deletes the document, if it is there.
    pub fn delete(&self, doc: &DocumentRef) {
        self.push(write::delete(doc.path(), None));
    }

    async fn commit(&self) -> Result<(), Error> {
        let (reads, mut writes) = {
            let mut state = self.state();
            (std::mem::take(&mut state.reads), std::mem::take(&mut state.writes))
        };
        if writes.is_empty() {
            // What was read must still have been true together at one moment.
            let Some((path, version)) = reads.iter().next() else { return Ok(()) };
            if reads.len() == 1 {
                return Ok(());
            }
            let precondition = match *version {
                Version::NONE => Precondition::Exists(false),
                version => Precondition::UpdateVersion(version),
            };
            writes.push(Write {
                path: path.clone(),
                op: WriteOp::Verify,
                transforms: Vec::new(),
                precondition: Some(precondition),
            });
        }
        let reads = reads.into_iter().map(|(path, version)| Read { path, version }).collect();
        self.client.commit_transaction(writes, reads).await.map(|_| ())
    }
}

impl Client {
    /// Runs reads and writes as if nothing else happened in between. `body` may run up to five times:
    /// again whenever a document that it read was changed before the commit. Its own error ends the
    /// transaction without effect, unless it is `aborted`.
    pub async fn transaction<F, Fut, T>(&self, mut body: F) -> Result<T, Error>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let mut delay = FIRST_DELAY;
        for attempt in 1.. {
            let transaction = Transaction::new(self.clone());
            let outcome = match body(transaction.clone()).await {
                Ok(value) => transaction.commit().await.map(|()| value),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.code() == Code::Aborted && attempt < ATTEMPTS => {
                    self.pause(delay).await;
                    delay *= 2;
                }
                outcome => return outcome,
            }
        }
        unreachable!("the last attempt returns its outcome")
    }
}
