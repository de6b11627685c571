//! Looks at what is left of a run: whether every write has its outcome, whether the server's documents
//! are what the model makes of the committed writes, whether every listener saw nothing but
//! consistent states in their order, and whether all agree in the end.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_core::{DocumentSnapshot, SnapshotMetadata};
use tidemark_protocol::model::{
    Document, DocumentPath, Fields, Target, Value, Version, aggregate, evaluate,
};
use tidemark_protocol::wire::codec::encode_document;

use crate::model::{Documents, History, PENDING};
use crate::node::{Answered, Listener, Node, Seen, Shown, View};
use crate::shapes::TIMESTAMP;
use crate::tap::Intent;
use crate::verdict::{Broken, Invariant, Report};
use crate::world::World;

/// So many ways in which pending writes may show are told apart.
const WAYS: usize = 64;

/// How a client's own write is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    /// It is pending, and shows.
    Must,
    /// It may show or not: nobody can tell when the client learnt its outcome.
    May,
    /// It is contained in what the server said. Over a document that the client does not have it may
    /// still show.
    Contained,
    /// A later edit has decided about a part of it, and the client knows: it shows in part.
    Partly,
}

type Verdict = Result<(), Broken>;

fn broken(invariant: Invariant, why: String) -> Verdict {
    Err(Broken { invariant, why })
}

/// What a target shows of these documents.
enum Outcome {
    Documents(Vec<Document>),
    Values(Vec<Value>),
}

fn result(target: &Target, documents: &[&Document]) -> Outcome {
    match target {
        Target::Query(query) => {
            let found = evaluate(query, documents.iter().copied());
            Outcome::Documents(found.into_iter().map(|it| query.result(it)).collect())
        }
        Target::Documents(paths) => {
            let mut found: Vec<Document> = Vec::new();
            for path in paths {
                found.extend(documents.iter().find(|it| it.path == *path).map(|it| (*it).clone()));
            }
            Outcome::Documents(found)
        }
        Target::Aggregate(query) => Outcome::Values(aggregate(query, documents.iter().copied())),
    }
}

/// A document as both sides must see it. Versions of documents with pending writes are estimates.
fn row(path: &DocumentPath, fields: &Fields, version: Version) -> String {
    format!("{path} @{version} {fields:?}")
}

fn shown_row(document: &DocumentSnapshot, versions: bool) -> Option<(String, DocumentPath)> {
    let fields = document.fields()?;
    let path = document.path().clone();
    Some(match document.metadata().has_pending_writes {
        false if versions => (row(&path, fields, document.update_version()), path),
        false => (row(&path, fields, Version::NONE), path),
        true => {
            let mut fields = fields.clone();
            fields.remove(TIMESTAMP);
            (row(&path, &fields, Version::NONE), path)
        }
    })
}

/// Everything that the judge has found out.
pub struct Judge<'a> {
    world: &'a World,
    intents: Vec<Intent>,
    history: History,
    /// The committed writes of which a part came too late.
    superseded: BTreeSet<usize>,
    report: Report,
}

impl<'a> Judge<'a> {
    /// Looks at a run that has ended.
    pub fn judge(world: &'a World) -> Result<Report, Broken> {
        let intents = world.tap.record().intents.clone();
        let (history, superseded, report) = Default::default();
        let mut judge = Judge { world, intents, history, superseded, report };
        judge.answers_are_there()?;
        judge.resolve_transactions()?;
        judge.replay()?;
        judge.server_equals_model()?;
        for node in &world.nodes {
            judge.histories(node)?;
            judge.convergence(node)?;
            judge.answers(node)?;
        }
        judge.resumes()?;
        judge.limits()?;
        judge.sum_up();
        Ok(judge.report)
    }

    /// Every write that took effect locally has been decided about.
    fn answers_are_there(&self) -> Verdict {
        for (at, intent) in self.intents.iter().enumerate() {
            let refused = matches!(intent.told, Some((_, Err(_))));
            if intent.stored.is_some() && !intent.is_answered() && !refused {
                let why = format!("write {at} was never sent: {intent:?}");
                return broken(Invariant::NothingLost, why);
            }
        }
        Ok(())
    }

    /// What the auditor found at the server.
    fn audited(&self) -> Result<BTreeMap<DocumentPath, (Version, Version, String)>, Broken> {
        let mut found = BTreeMap::new();
        let auditor = self.world.nodes.last().expect("the auditor is the last");
        for Answered { outcome, target, .. } in &auditor.answers {
            let answer = outcome.as_ref().map_err(|error| Broken {
                invariant: Invariant::Convergence,
                why: format!("the auditor's question for {target:?} failed: {error}"),
            })?;
            for document in &answer.documents {
                let Some((row, path)) = shown_row(document, true) else { continue };
                let versions = (document.create_version(), document.update_version());
                found.insert(path, (versions.0, versions.1, row));
            }
        }
        Ok(found)
    }

    /// A transaction whose outcome nobody heard of left its mark or not.
    fn resolve_transactions(&mut self) -> Verdict {
        let found = self.audited()?;
        for (at, intent) in self.intents.iter_mut().enumerate() {
            let Some(mark) = intent.writes.last().filter(|_| !intent.local) else { continue };
            let committed = found.get(&mark.path).map(|(created, ..)| *created);
            match (intent.committed, committed) {
                (None, Some(version)) if intent.rejected => {
                    let why = format!("transaction {at} was refused and left a mark at {version}");
                    return broken(Invariant::RejectedLeavesNoTrace, why);
                }
                (None, Some(version)) => intent.committed = Some(version),
                (known, found) if known != found => {
                    let why = format!("transaction {at} was committed at {known:?}, not {found:?}");
                    return broken(Invariant::NothingLost, why);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All that was committed, in the order of its versions, through the model.
    fn replay(&mut self) -> Verdict {
        let mut committed: Vec<(Version, usize)> = Vec::new();
        for (at, intent) in self.intents.iter().enumerate() {
            committed.extend(intent.committed.map(|version| (version, at)));
        }
        committed.sort();
        for pair in committed.windows(2) {
            if pair[0].0 == pair[1].0 {
                let why = format!("writes {} and {} have one version", pair[0].1, pair[1].1);
                return broken(Invariant::AppliedOnce, why);
            }
        }
        for (version, at) in committed {
            let intent = &self.intents[at];
            for read in &intent.reads {
                let found = self.history.now().version(&read.path);
                if found != read.version {
                    let why = format!(
                        "transaction {at} at {version} rests on {} at {}, which was at {found}",
                        read.path, read.version
                    );
                    return broken(Invariant::History, why);
                }
            }
            let edit = intent.edit().map_or(version.0, |edit| edit.0);
            match self.history.commit(&intent.writes, version, edit) {
                Ok(0) => {}
                Ok(superseded) => {
                    self.report.superseded += superseded;
                    self.superseded.insert(at);
                }
                Err(refused) => {
                    let why = format!("write {at} was committed at {version}: {}", refused.0);
                    return broken(Invariant::LastEditWins, why);
                }
            }
        }
        Ok(())
    }

    fn server_equals_model(&self) -> Verdict {
        let found = self.audited()?;
        let documents = self.history.now().all();
        let expected = documents.iter().map(|it| {
            let row = row(&it.path, &it.fields, it.update_version);
            (it.path.clone(), (it.create_version, it.update_version, row))
        });
        let expected: BTreeMap<_, _> = expected.collect();
        if found == expected {
            return Ok(());
        }
        let paths = found.keys().chain(expected.keys());
        let differs = paths.filter(|path| found.get(*path) != expected.get(*path));
        let shown = differs.map(|path| {
            format!("\n  {path}: {:?}, the model has {:?}", found.get(path), expected.get(path))
        });
        let why = format!("the server's documents differ:{}", shown.collect::<String>());
        // A document that is older than its last write says that the write is gone.
        let version = |of: Option<&(Version, Version, String)>| of.map(|(_, updated, _)| *updated);
        let mut paths = expected.keys();
        let lost = paths.any(|path| version(found.get(path)) < version(expected.get(path)));
        broken(if lost { Invariant::NothingLost } else { Invariant::LastEditWins }, why)
    }

    fn histories(&mut self, node: &Node) -> Verdict {
        for listener in node.listeners.values() {
            if let Some(error) = &listener.failed {
                let why = format!("a listener of client {} failed: {error}", node.index);
                return broken(Invariant::History, why);
            }
            let mut last = Version::NONE;
            let mut copy: Vec<DocumentSnapshot> = Vec::new();
            for seen in &listener.history {
                if let Shown::Documents(snapshot) = &seen.shown {
                    follow(&mut copy, snapshot)
                        .map_err(|why| self.accuse(node, listener, seen, &why))?;
                }
                let version = seen.shown.version();
                if version < last {
                    let why = format!("it went back from {last}");
                    return Err(self.accuse(node, listener, seen, &why));
                }
                last = version;
                self.consistent(node, listener, seen)
                    .map_err(|why| self.accuse(node, listener, seen, &why))?;
                self.report.snapshots += 1;
            }
        }
        Ok(())
    }

    fn accuse(&self, node: &Node, listener: &Listener, seen: &Seen, why: &str) -> Broken {
        let why = format!(
            "client {}, event {}, listening to {:?}: {why}",
            node.index, seen.event, listener.target
        );
        Broken { invariant: Invariant::History, why }
    }

    /// What is shown is the result at its version with the client's pending writes on top.
    fn consistent(&self, node: &Node, listener: &Listener, seen: &Seen) -> Result<(), String> {
        let (version, metadata) = (seen.shown.version(), seen.shown.metadata());
        if metadata.from_cache {
            return self.known_documents(seen);
        }
        let pending = self.pending(node, seen.event, version, &listener.target, metadata);
        if pending.iter().any(|(_, show)| *show != Show::Contained) && is_cut(&listener.target) {
            // What moves into a window because of a pending write may not be here.
            return Ok(());
        }
        // Who does not want to know of metadata is not told of a version alone.
        let at = (version, listener.metadata);
        self.explained(&listener.target, &seen.shown.view(), at, &pending)
    }

    /// The writes of a client that may show in what it sees, and how.
    fn pending(
        &self,
        node: &Node,
        event: u64,
        version: Version,
        target: &Target,
        metadata: SnapshotMetadata,
    ) -> Vec<(&Intent, Show)> {
        let mut found = Vec::new();
        let own = self.intents.iter().enumerate();
        let own = own.filter(|(_, it)| it.client == node.index && it.local && it.made <= event);
        for (at, intent) in own {
            if !intent.writes.iter().any(|write| concerns(target, &write.path)) {
                continue;
            }
            let crashed = node.crashes.iter().any(|crash| (intent.made..event).contains(crash));
            if crashed && intent.stored.is_none() {
                continue;
            }
            let contained = intent.committed.is_some_and(|at| at <= version);
            let told = intent.told.filter(|(at, _)| *at <= event);
            let refused = matches!(told, Some((_, Err(_))));
            // Told of it with the very event, or in a former life of the process.
            let unsure = told.is_some_and(|(at, _)| {
                at == event || node.crashes.iter().any(|crash| (at..event).contains(crash))
            });
            let conditional = intent.writes.iter().any(|write| write.precondition.is_some());
            // After a crash nobody is told of what a former life wrote.
            let former = crashed && intent.is_answered();
            let show = match (contained, refused) {
                (false, true) if !unsure => continue,
                (true, _) if told.is_some() && !unsure => Show::Contained,
                (_, false) if self.superseded.contains(&at) && (told.is_some() || former) => {
                    Show::Partly
                }
                (true, _) | (_, true) => Show::May,
                (false, false) if conditional || former || unsure => Show::May,
                // A write that changes nothing is not shown as pending, but may be.
                (false, false) if !metadata.has_pending_writes => Show::May,
                (false, false) => Show::Must,
            };
            found.push((intent, show));
        }
        found
    }

    /// Whether what no pending write touches is as of the version, and the rest as some choice among
    /// the writes that may show makes it.
    fn explained(
        &self,
        target: &Target,
        shown: &View<'_>,
        (version, versions): (Version, bool),
        pending: &[(&Intent, Show)],
    ) -> Result<(), String> {
        let state = self.history.at(version);
        let explained = match shown {
            View::Values(_) => differs(target, shown, state.all(), versions).map_or(Ok(()), Err),
            View::Rows(rows) => {
                let touched: BTreeSet<&DocumentPath> = pending
                    .iter()
                    .filter(|(_, show)| *show != Show::Contained)
                    .flat_map(|(intent, _)| intent.writes.iter().map(|write| &write.path))
                    .collect();
                let all = state.all().iter();
                let all: Vec<&Document> = all.filter(|it| !touched.contains(&it.path)).collect();
                let rest: Vec<DocumentSnapshot> =
                    rows.iter().filter(|it| !touched.contains(it.path())).cloned().collect();
                match result(target, &all) {
                    Outcome::Documents(expected) => {
                        rows_differ(target, &expected, &rest, versions).map_or(Ok(()), Err)
                    }
                    Outcome::Values(_) => Err("rows of an aggregate".to_owned()),
                }
                .and_then(|()| {
                    let mut touched = touched.into_iter();
                    touched.try_for_each(|path| {
                        self.explained_document(target, rows, (path, version), pending)
                    })
                })
            }
        };
        explained.map_err(|why| {
            let pending: Vec<String> =
                pending.iter().map(|(it, show)| format!("{show:?} {:?}", it.writes)).collect();
            format!("as of {version}, {why}; pending: {}", pending.join(", "))
        })
    }

    /// Whether a document with pending writes is as some choice among them makes it.
    fn explained_document(
        &self,
        target: &Target,
        rows: &[DocumentSnapshot],
        (path, version): (&DocumentPath, Version),
        pending: &[(&Intent, Show)],
    ) -> Result<(), String> {
        let row = rows.iter().find(|it| it.path() == path && it.exists());
        let shown = row.and_then(|row| row.fields()).map(without_time);
        let own: Vec<&(&Intent, Show)> = pending
            .iter()
            .filter(|(intent, _)| intent.writes.iter().any(|write| write.path == *path))
            .collect();
        if own.iter().any(|(_, show)| *show == Show::Partly) {
            return Ok(());
        }
        // Mostly it is what it is as of the version, with all of them on top.
        let mut most = self.history.at(version).documents().only(path);
        for (intent, _) in own.iter().filter(|(_, show)| *show != Show::Contained) {
            lay(&mut most, intent, path, PENDING);
        }
        if alone(&most, target, path) == shown {
            return Ok(());
        }
        let mut could_be = Vec::new();
        for (base, has_it) in self.bases(target, path, version) {
            let laid = own.iter().filter(|(_, show)| !has_it || *show != Show::Contained);
            let laid: Vec<&(&Intent, Show)> = laid.copied().collect();
            let Some(made) = outcomes(base, &laid, path) else { return Ok(()) };
            for documents in made {
                let made = alone(&documents, target, path);
                if made == shown {
                    return Ok(());
                }
                if !could_be.contains(&made) {
                    could_be.push(made);
                }
            }
        }
        could_be.truncate(4);
        Err(format!("{path} is shown as {shown:?}, it could be {could_be:?}"))
    }

    /// What a client may know of a document: what the target shows of it is known as of the version;
    /// of others an earlier state may be, or nothing.
    fn bases(
        &self,
        target: &Target,
        path: &DocumentPath,
        version: Version,
    ) -> Vec<(Documents, bool)> {
        let state = self.history.at(version).documents().only(path);
        let shows = state.all().iter().any(|it| belongs(target, it));
        if shows || matches!(target, Target::Documents(_)) {
            return vec![(state, true)];
        }
        let mut bases = vec![state, Documents::default()];
        bases.extend(self.history.former(path, version));
        bases.into_iter().map(|base| (base, false)).collect()
    }

    /// Offline, each document is as it was at some time, or pending.
    fn known_documents(&self, seen: &Seen) -> Result<(), String> {
        let Shown::Documents(snapshot) = &seen.shown else { return Ok(()) };
        for document in snapshot.documents() {
            if document.metadata().has_pending_writes || !document.exists() {
                continue;
            }
            let version = document.update_version();
            let then = self.history.at(version);
            let was = then.all().iter().find(|it| it.path == *document.path());
            if was.is_none_or(|was| Some(&was.fields) != document.fields()) {
                return Err(format!("{document:?} was never so: {was:?}"));
            }
        }
        Ok(())
    }

    /// In the end everybody sees what the server has.
    fn convergence(&self, node: &Node) -> Verdict {
        let now = self.history.now().all();
        for listener in node.listening() {
            let Some(last) = listener.history.last() else { continue };
            if let Some(why) =
                differs(&listener.target, &last.shown.view(), &now, listener.metadata)
            {
                let target = &listener.target;
                let why = format!("client {} ends with {target:?}: {why}", node.index);
                return broken(Invariant::Convergence, why);
            }
        }
        Ok(())
    }

    /// Answers show consistent states; those of the end what the listeners show.
    fn answers(&mut self, node: &Node) -> Verdict {
        for Answered { target, event, outcome } in &node.answers {
            let Ok(answer) = outcome else { continue };
            if answer.metadata.from_cache {
                continue;
            }
            let version = answer.version;
            let metadata = SnapshotMetadata { has_pending_writes: true, from_cache: false };
            let pending = self.pending(node, *event, version, target, metadata);
            if pending.iter().any(|(_, show)| *show != Show::Contained) && is_cut(target) {
                continue;
            }
            let shown = match target {
                Target::Aggregate(_) => continue,
                Target::Query(_) | Target::Documents(_) => View::Rows(&answer.documents),
            };
            if let Err(why) = self.explained(target, &shown, (version, true), &pending) {
                let why = format!("client {} asked for {target:?}: {why}", node.index);
                return broken(Invariant::ResumedEqualsFresh, why);
            }
            self.report.snapshots += 1;
        }
        Ok(())
    }

    /// The largest document, in bytes, with what merging remembers of it.
    fn largest(&self) -> u64 {
        let documents = self.history.now().all();
        let sizes = documents.iter().map(|it| encode_document(it).len() as u64 * 2 + 100);
        sizes.max().unwrap_or_default()
    }

    /// One document has changed: it comes once for each listener, with those that move into or out
    /// of a window because of it; the rest of the connection has a fixed price.
    fn resumes(&mut self) -> Verdict {
        let changed = crate::shapes::path(0);
        for (client, bytes) in &self.world.resumed {
            let node = &self.world.nodes[*client];
            let price = |listener: &Listener| {
                60 + if concerns(&listener.target, &changed) { 4 * self.largest() } else { 0 }
            };
            let most: u64 = 1_500 + node.listening().map(price).sum::<u64>();
            if *bytes > most {
                let why = format!("client {client} received {bytes} bytes, {most} are enough");
                return broken(Invariant::ResumeBytes, why);
            }
            self.report.resumes += 1;
        }
        Ok(())
    }

    /// A cache is larger than its budget only by what is listened to.
    fn limits(&self) -> Verdict {
        // What a cache counts for a document: its contents, and some more for its place.
        let contents = |it: &Document| {
            let fields = it.fields.iter();
            fields.map(|(name, value)| (name.len() + value.size()) as u64).sum::<u64>()
        };
        let much = crate::shapes::much();
        let mut documents = self.history.now().all();
        documents.retain(|it| !much.iter().any(|write| write.path == it.path));
        let document = 200 + documents.iter().map(contents).max().unwrap_or_default();
        for (client, cache) in self.world.caches.iter().enumerate() {
            let kept = cache.documents * document + cache.listeners * 300;
            // Beyond it there may be what was pending when the engine looked last.
            let former = 7 * document;
            if cache.size > cache.budget * 3 / 2 + former + kept {
                let why = format!("the cache of client {client} has too much: {cache:?}");
                return broken(Invariant::Limits, why);
            }
        }
        Ok(())
    }

    fn sum_up(&mut self) {
        let world = self.world;
        let report = &mut self.report;
        report.trace = world.trace.hash();
        report.commits = self.intents.iter().filter(|it| it.committed.is_some()).count() as u64;
        report.rejected = self.intents.iter().filter(|it| it.rejected).count() as u64;
        report.connections = world.nodes.iter().map(|node| node.connections).sum();
        let crashes: usize = world.nodes.iter().map(|node| node.crashes.len()).sum();
        report.crashes = crashes as u64 + world.server_crashes;
        report.resyncs = world.resyncs;
    }
}

/// What pending writes may make of a document: with or without each that need not show, each as made
/// now or at some time before. None: there are too many ways to tell.
fn outcomes(
    base: Documents,
    pending: &[&(&Intent, Show)],
    path: &DocumentPath,
) -> Option<Vec<Documents>> {
    let mut found = vec![base];
    for (intent, show) in pending {
        let mut next: Vec<Documents> = Vec::new();
        let mut add = |documents: Documents| {
            if !next.contains(&documents) {
                next.push(documents);
            }
        };
        for before in &found {
            // How it is stamped until it is sent is the client's affair.
            for edit in before.moments(path).into_iter().chain([PENDING]) {
                let mut after = before.clone();
                lay(&mut after, intent, path, edit);
                add(after);
            }
            if *show != Show::Must {
                add(before.clone());
            }
        }
        if next.len() > WAYS {
            return None;
        }
        found = next;
    }
    Some(found)
}

/// Lays the part of a pending write over a document that is about it.
fn lay(documents: &mut Documents, intent: &Intent, path: &DocumentPath, edit: u64) {
    let version = Version(u64::MAX >> 2);
    for write in intent.writes.iter().filter(|write| write.path == *path) {
        // One whose condition does not hold shows nothing.
        let _ = documents.apply(write, version, edit);
    }
}

/// A document as a target shows it, if it does.
fn alone(documents: &Documents, target: &Target, path: &DocumentPath) -> Option<Fields> {
    let made = documents.all().into_iter().find(|it| it.path == *path);
    made.filter(|it| belongs(target, it)).map(|it| without_time(&it.fields))
}

fn without_time(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    fields.remove(TIMESTAMP);
    fields
}

/// Whether a document alone would be in the target.
fn belongs(target: &Target, document: &Document) -> bool {
    match target {
        Target::Query(query) => query.matches(document),
        Target::Aggregate(aggregate) => aggregate.matched().matches(document),
        Target::Documents(paths) => paths.contains(&document.path),
    }
}

/// Whether a write to this document can show in a target.
fn concerns(target: &Target, path: &DocumentPath) -> bool {
    match target {
        Target::Query(query) => query.is_over(path.as_str()),
        Target::Aggregate(aggregate) => aggregate.query.is_over(path.as_str()),
        Target::Documents(paths) => paths.contains(path),
    }
}

/// Whether a pending write can move documents into the target that are not here.
fn is_cut(target: &Target) -> bool {
    match target {
        Target::Query(query) => query.limit.is_some() || query.offset > 0,
        Target::Aggregate(_) => true,
        Target::Documents(_) => false,
    }
}

/// How what is shown differs from the result over these documents.
fn differs(
    target: &Target,
    shown: &View<'_>,
    documents: &[Document],
    versions: bool,
) -> Option<String> {
    let all: Vec<&Document> = documents.iter().collect();
    match (result(target, &all), shown) {
        (Outcome::Documents(expected), View::Rows(found)) => {
            rows_differ(target, &expected, found, versions)
        }
        (Outcome::Values(expected), View::Values(found)) => {
            let same = found.iter().copied().eq(expected.iter());
            (!same).then(|| format!("shown {found:?}, expected {expected:?}"))
        }
        _ => Some("documents where values belong, or the other way round".to_owned()),
    }
}

fn is_row(shown: &DocumentSnapshot, expected: &Document, versions: bool) -> bool {
    let Some(fields) = shown.fields() else { return false };
    shown.path() == &expected.path
        && match shown.metadata().has_pending_writes {
            true => without_time(fields) == without_time(&expected.fields),
            false => {
                *fields == expected.fields
                    && (!versions || shown.update_version() == expected.update_version)
            }
        }
}

fn rows_differ(
    target: &Target,
    expected: &[Document],
    found: &[DocumentSnapshot],
    versions: bool,
) -> Option<String> {
    let there: Vec<&DocumentSnapshot> = found.iter().filter(|it| it.exists()).collect();
    let mut pairs = there.iter().zip(expected);
    if there.len() == expected.len() && pairs.all(|(a, b)| is_row(a, b, versions)) {
        return None;
    }
    let mut found: Vec<(String, DocumentPath, bool)> = found
        .iter()
        .filter_map(|it| shown_row(it, versions).map(|(row, path)| (row, path, it.metadata())))
        .map(|(row, path, metadata)| (row, path, metadata.has_pending_writes))
        .collect();
    let pending: Vec<DocumentPath> =
        found.iter().filter(|(_, _, pending)| *pending).map(|(_, path, _)| path.clone()).collect();
    let mut expected: Vec<String> = expected
        .iter()
        .map(|it| {
            if pending.contains(&it.path) {
                let mut fields = it.fields.clone();
                fields.remove(TIMESTAMP);
                return row(&it.path, &fields, Version::NONE);
            }
            let version = if versions { it.update_version } else { Version::NONE };
            row(&it.path, &it.fields, version)
        })
        .collect();
    if matches!(target, Target::Documents(_)) {
        found.sort();
        expected.sort();
    }
    let same = found.iter().map(|(row, ..)| row).eq(expected.iter());
    (!same).then(|| {
        let found: Vec<&String> = found.iter().map(|(row, ..)| row).collect();
        format!("shown {found:?}, expected {expected:?}")
    })
}

/// Follows the changes that a snapshot tells; they must lead to its documents.
fn follow(
    copy: &mut Vec<DocumentSnapshot>,
    snapshot: &tidemark_core::QuerySnapshot,
) -> Result<(), String> {
    for change in snapshot.changes() {
        if let Some(old) = change.old_index {
            if copy.get(old).is_none_or(|it| it.path() != change.document.path()) {
                return Err(format!("there is nothing like {change:?} to change"));
            }
            copy.remove(old);
        }
        if let Some(new) = change.new_index {
            if new > copy.len() {
                return Err(format!("there is no place for {change:?}"));
            }
            copy.insert(new, change.document.clone());
        }
    }
    if *copy != snapshot.documents() {
        return Err("its changes do not lead to its documents".to_owned());
    }
    Ok(())
}
