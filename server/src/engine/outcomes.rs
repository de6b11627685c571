//! Exactly once: what became of each client's unacknowledged writes. The lane drives it, and stores
//! a client's record in the same transaction as the writes it speaks of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tidemark_protocol::model::{ClientId, Code, ModelError, Version, WriteId, WriteResult};

use super::error::EngineError;
use super::keys::Keys;
use super::records::{ClientRecord, OutcomeRecord};
use crate::store::Snapshot;

/// How many outcomes a client may leave unacknowledged before it is refused more.
const UNACKNOWLEDGED_MAX: usize = 2_000;

/// What is known of a write that arrives.
pub(super) enum Known {
    /// Nothing: it is to be applied.
    New,
    /// It took effect: this is its outcome.
    Committed(OutcomeRecord),
}

#[derive(Default)]
struct Client {
    acknowledged_through: u64,
    outcomes: BTreeMap<u64, OutcomeRecord>,
}

/// The records of the clients that are connected.
#[derive(Default)]
pub(super) struct Outcomes {
    clients: HashMap<ClientId, Client>,
    /// Clients whose record changed in the batch being built.
    dirty: HashSet<ClientId>,
}

impl Outcomes {
    /// Brings a client's record into memory.
    pub(super) async fn load(
        &mut self,
        client: ClientId,
        keys: Keys,
        snapshot: &Arc<dyn Snapshot>,
    ) -> Result<(), EngineError> {
        if self.clients.contains_key(&client) {
            return Ok(());
        }
        let loaded = match snapshot.get(&keys.client(client)).await? {
            Some(bytes) => Client::decode(bytes)?,
            None => Client::default(),
        };
        self.clients.insert(client, loaded);
        Ok(())
    }

    /// Forgets a client's record; the store keeps it. Not while a batch with it is being built.
    pub(super) fn unload(&mut self, client: ClientId) {
        if !self.dirty.contains(&client) {
            self.clients.remove(&client);
        }
    }

    /// After a failed commit nothing in memory can be trusted.
    pub(super) fn clear(&mut self) {
        self.clients.clear();
        self.dirty.clear();
    }

    /// Drops the outcomes that the client has received.
    pub(super) fn acknowledge(&mut self, client: ClientId, through: WriteId) {
        let Some(record) = self.clients.get_mut(&client) else { return };
        if through.0 > record.acknowledged_through {
            record.acknowledged_through = through.0;
            record.outcomes = record.outcomes.split_off(&(through.0.saturating_add(1)));
            self.dirty.insert(client);
        }
    }

    /// What is known of a write; refuses ids that can no longer be told apart from repeats.
    pub(super) fn lookup(&self, client: ClientId, write_id: WriteId) -> Result<Known, ModelError> {
        let Some(record) = self.clients.get(&client) else { return Ok(Known::New) };
        if let Some(outcome) = record.outcomes.get(&write_id.0) {
            return Ok(Known::Committed(outcome.clone()));
        }
        if write_id.0 <= record.acknowledged_through {
            return Err(ModelError::new(
                Code::FailedPrecondition,
                format!(
                    "write id {write_id} is not above {}, through which this client has acknowledged; \
                     write ids must increase and not be used again",
                    record.acknowledged_through
                ),
            ));
        }
        if record.outcomes.len() >= UNACKNOWLEDGED_MAX {
            return Err(ModelError::new(
                Code::ResourceExhausted,
                format!("{UNACKNOWLEDGED_MAX} writes are unacknowledged; acknowledge some first"),
            ));
        }
        Ok(Known::New)
    }

    /// Records that a write of the batch being built takes effect.
    pub(super) fn record(
        &mut self,
        client: ClientId,
        write_id: WriteId,
        version: Version,
        results: &[WriteResult],
    ) {
        let record = self.clients.entry(client).or_default();
        record.outcomes.insert(write_id.0, OutcomeRecord::new(write_id, version, results));
        self.dirty.insert(client);
    }

    /// Whether there is something to store.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The changed records, to be stored with the batch.
    pub(super) fn take_dirty(&mut self) -> Vec<(ClientId, Vec<u8>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let clients = &self.clients;
        dirty
            .into_iter()
            .filter_map(|client| Some((client, clients.get(&client)?.encode())))
            .collect()
    }
}

impl Client {
    fn decode(bytes: Bytes) -> Result<Client, EngineError> {
        let record = ClientRecord::decode(bytes).map_err(EngineError::corrupt)?;
        let outcomes = record.outcomes.into_iter().map(|outcome| (outcome.write_id, outcome));
        Ok(Client {
            acknowledged_through: record.acknowledged_through,
            outcomes: outcomes.collect(),
        })
    }

    fn encode(&self) -> Vec<u8> {
        let outcomes = self.outcomes.values().cloned().collect();
        ClientRecord { acknowledged_through: self.acknowledged_through, outcomes }.encode_to_vec()
    }
}
