//! Concurrent edits: every rule of `docs/consistency.md` by example, and all of them together against
//! an oracle that keeps every edit and replays them in the order in which they were made.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tidemark_protocol::model::*;

/// The commits are far later than the edits, which are counted from 1.
const COMMITS: u64 = 1_000;

/// A document that writes arrive at.
#[derive(Default)]
struct Arrivals {
    document: Option<Document>,
    deleted: Option<EditTime>,
    count: u64,
}

impl Arrivals {
    /// Lets a write arrive that was made then; without a time, now. Returns what is told.
    fn arrive(&mut self, made: Option<u64>, write: &Write) -> WriteResult {
        assert_eq!(write.validate(), Ok(()));
        self.count += 1;
        let version = Version(COMMITS + self.count);
        let at = CommitTime::at_commit(version, made.map(EditTime));
        let applied = apply_write(self.document.as_ref(), self.deleted, write, at).unwrap();
        let versions = |document: &Option<Document>| document.as_ref().map(|it| it.update_version);
        if applied.changed {
            assert!(applied.document.as_ref().is_none_or(|it| it.update_version == version));
            assert_eq!(applied.deleted.is_some(), applied.document.is_none());
        } else {
            assert_eq!(versions(&applied.document), versions(&self.document));
            assert_eq!(applied.document, self.document, "it left no trace");
            assert!(applied.deleted >= self.deleted || applied.document.is_some());
        }
        (self.document, self.deleted) = (applied.document, applied.deleted);
        applied.result
    }

    fn fields(&self) -> Option<&Fields> {
        self.document.as_ref().map(|document| &document.fields)
    }

    fn clocks(&self) -> Option<&Clocks> {
        self.document.as_ref()?.merge.clocks.as_deref()
    }
}

fn field(path: &str) -> FieldPath {
    FieldPath::parse(path).unwrap()
}

/// `set a=1 b.c=2`, `update a=1 -b`, `increment a=1`, `delete`, `verify`; `a:=1` is the map
/// `{k: 1}`.
fn write(text: &str) -> Write {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (mut fields, mut mask, mut transforms) = (Fields::new(), Vec::new(), Vec::new());
    for part in rest.split_whitespace() {
        let Some((path, value)) = part.split_once('=') else {
            mask.push(field(part.strip_prefix('-').unwrap()));
            continue;
        };
        let value = Value::Integer(value.parse().unwrap());
        let (path, value) = match path.strip_suffix(':') {
            Some(path) => (path, Value::from([("k", value)])),
            None => (path, value),
        };
        if verb == "increment" {
            let transform = Transform::Increment(value);
            transforms.push(FieldTransform { field: field(path), transform });
            continue;
        }
        put(&mut fields, field(path).segments(), Some(&value));
        mask.push(field(path));
    }
    let op = match verb {
        "set" => WriteOp::Set(fields),
        "update" | "increment" => WriteOp::Update { fields, mask },
        "delete" => WriteOp::Delete,
        "verify" => WriteOp::Verify,
        _ => panic!("{text}"),
    };
    let precondition = (verb == "verify").then_some(Precondition::Exists(true));
    Write { path: DocumentPath::parse("c/d").unwrap(), op, transforms, precondition }
}

fn shown(fields: &Fields) -> String {
    let entry = |(name, value): (&String, &Value)| match value {
        Value::Map(fields) => format!("{name}={{{}}}", shown(fields)),
        Value::Integer(number) => format!("{name}={number}"),
        other => format!("{name}={other:?}"),
    };
    fields.iter().map(entry).collect::<Vec<_>>().join(" ")
}

/// Writes arrive in this order, each with the time it was made at (0: now), and what the document is
/// then; after a `!` what the author is told of having come too late.
fn check(steps: &[(u64, &str, &str)]) -> Arrivals {
    let mut arrivals = Arrivals::default();
    for (made, text, expected) in steps {
        let result = arrivals.arrive((*made > 0).then_some(*made), &write(text));
        let mut found = arrivals.fields().map_or_else(|| "-".to_owned(), shown);
        match result.superseded {
            Superseded::Nothing => {}
            Superseded::Fields(fields) => {
                let fields: Vec<String> = fields.iter().map(FieldPath::to_string).collect();
                found += &format!(" ! {}", fields.join(" "));
            }
            Superseded::Whole => found += " ! whole",
        }
        assert_eq!(&found, expected, "after `{text}` made at {made} of {steps:?}");
    }
    arrivals
}

#[test]
fn the_later_edit_of_a_field_wins_whatever_arrives_first() {
    check(&[
        (1, "set a=1 b=1", "a=1 b=1"),
        (5, "update a=5", "a=5 b=1"),
        (3, "update a=3", "a=5 b=1 ! a"),
        (3, "update a=3 b=3", "a=5 b=3 ! a"),
        (7, "update a=7", "a=7 b=3"),
    ]);
    check(&[
        (0, "set a=1", "a=1"),
        (3, "update a=3", "a=1 ! a"),
        (0, "update a=2", "a=2"),
        (0, "update a=4", "a=4"),
    ]);
}

#[test]
fn of_two_edits_at_one_time_the_later_arrival_wins() {
    check(&[
        (1, "set a=1", "a=1"),
        (5, "update a=5", "a=5"),
        (5, "update a=6", "a=6"),
        (5, "set a=7", "a=7"),
        (5, "set a=8", "a=8"),
        (5, "delete", "-"),
        (5, "update b=9", "b=9"),
    ]);
}

#[test]
fn deleting_a_field_is_an_edit_of_it() {
    check(&[
        (1, "set a=1 b=1", "a=1 b=1"),
        (5, "update -a", "b=1"),
        (3, "update a=3", "b=1 ! a"),
        (7, "update a=7", "a=7 b=1"),
        (6, "update -a", "a=7 b=1 ! a"),
    ]);
}

#[test]
fn an_edit_of_a_map_keeps_what_was_edited_in_it_later() {
    check(&[
        (1, "set m.x=1 m.y=1", "m={x=1 y=1}"),
        (7, "update m.x=7", "m={x=7 y=1}"),
        (5, "update m=5", "m={x=7} ! m.x"),
        (6, "update m.x=6", "m={x=7} ! m.x"),
        (6, "update m.y=6", "m={x=7 y=6}"),
        (8, "update m=8", "m=8"),
        (7, "update m.y=7", "m=8 ! m.y"),
        (9, "update m.y=9", "m={y=9}"),
    ]);
}

#[test]
fn a_set_replaces_all_but_what_was_edited_later() {
    check(&[
        (1, "set a=1 b=1 c=1", "a=1 b=1 c=1"),
        (7, "update a=7", "a=7 b=1 c=1"),
        (8, "update -c", "a=7 b=1"),
        (5, "set a=5 c=5 d=5", "a=7 d=5 ! a c"),
        (4, "set a=4", "a=7 d=5 ! whole"),
        (4, "update d=4 e=4", "a=7 d=5 ! d e"),
        (6, "update e=6", "a=7 d=5 e=6"),
        (9, "set a=9", "a=9"),
    ]);
}

#[test]
fn a_delete_loses_to_any_later_edit_and_then_leaves_everything() {
    check(&[
        (1, "set a=1 b=1", "a=1 b=1"),
        (7, "update a=7", "a=7 b=1"),
        (5, "delete", "a=7 b=1 ! whole"),
        (8, "delete", "-"),
    ]);
}

#[test]
fn what_was_edited_before_a_delete_does_not_come_back() {
    check(&[
        (1, "set a=1 b=1", "a=1 b=1"),
        (5, "delete", "-"),
        (3, "update a=3", "- ! whole"),
        (4, "set a=4", "- ! whole"),
        (3, "increment a=3", "- ! whole"),
        (2, "delete", "-"),
        (6, "update a=6", "a=6"),
        (4, "set b=4", "a=6 ! whole"),
        (5, "set b=5", "a=6 b=5 ! a"),
    ]);
    check(&[
        (1, "set a=1", "a=1"),
        (5, "delete", "-"),
        (6, "set b=6", "b=6"),
        (5, "delete", "b=6 ! whole"),
    ]);
}

#[test]
fn transforms_always_apply_and_count_as_the_later_of_the_edits() {
    check(&[
        (1, "set n=1", "n=1"),
        (7, "update n=7", "n=7"),
        (3, "increment n=3", "n=10"),
        (6, "update n=6", "n=10 ! n"),
        (9, "increment n=1", "n=11"),
        (8, "update n=8", "n=11 ! n"),
    ]);
    // What it computed takes the place of everything inside the field.
    check(&[
        (1, "set n.x=1", "n={x=1}"),
        (7, "update n.x=7", "n={x=7}"),
        (5, "increment n=5", "n=5"),
        (6, "update n=6", "n=5 ! n"),
    ]);
}

#[test]
fn what_changes_no_value_now_leaves_no_trace_but_a_stamp_does() {
    let now = check(&[
        (1, "set a=1", "a=1"),
        (0, "update a=1", "a=1"),
        (0, "update -x", "a=1"),
        (0, "set a=1", "a=1"),
        (0, "verify", "a=1"),
        (5, "update a=5 x=5", "a=5 x=5"),
    ]);
    assert_eq!(now.document.unwrap().update_version, Version(COMMITS + 6));
    check(&[(0, "delete", "-"), (5, "set a=5", "a=5")]);
    check(&[
        (1, "set a=1", "a=1"),
        (7, "update a=1 -x", "a=1"),
        (5, "update a=5 x=5", "a=1 ! a x"),
        (8, "set a=1", "a=1"),
        (7, "update y=7", "a=1 ! y"),
    ]);
    check(&[
        (9, "delete", "-"),
        (5, "set a=5", "- ! whole"),
        (8, "delete", "-"),
        (9, "set a=9", "a=9"),
    ]);
}

#[test]
fn a_stamp_from_the_future_is_taken_for_now() {
    check(&[
        (9_999_999, "set a=1", "a=1"),
        (0, "update a=2", "a=2"),
        (9_999_999, "update a=3", "a=3"),
        (0, "delete", "-"),
        (0, "update a=4", "a=4"),
    ]);
}

#[test]
fn documents_written_as_a_whole_now_carry_no_clocks() {
    let now = check(&[(0, "set a=1", "a=1"), (0, "set a=2", "a=2")]);
    assert_eq!(now.document.unwrap().merge, MergeState::default());
    let updated = check(&[(0, "set a=1", "a=1"), (0, "update b=2", "a=1 b=2")]);
    let clocks = updated.clocks().unwrap();
    assert_eq!(clocks.base, EditTime(COMMITS + 1));
    assert_eq!(clocks.fields, BTreeMap::from([(field("b"), EditTime(COMMITS + 2))]));
    let again = check(&[(0, "update b=2", "b=2"), (0, "set a=1", "a=1")]);
    assert_eq!(again.document.unwrap().merge, MergeState::default());
}

#[test]
fn the_clocks_of_a_document_are_bounded_by_forgetting_the_oldest() {
    let mut arrivals = Arrivals::default();
    arrivals.arrive(Some(1), &write("set z=1"));
    let last = 2 * limits::CLOCKS_PER_DOCUMENT as u64;
    for made in 2..=last {
        arrivals.arrive(Some(made), &write(&format!("update f{made}={made}")));
        let clocks = arrivals.clocks().unwrap();
        assert!(clocks.fields.len() <= limits::CLOCKS_PER_DOCUMENT);
        assert!(clocks.fields.values().all(|edit| *edit > clocks.base));
    }
    let oldest = last - limits::CLOCKS_PER_DOCUMENT as u64;
    assert_eq!(arrivals.clocks().unwrap().base, EditTime(oldest));
    // What is no longer told apart counts as edited when the newest forgotten edit was made.
    let told = |made, text| {
        Arrivals { ..arrivals_of(&arrivals) }.arrive(Some(made), &write(text)).superseded
    };
    assert_eq!(told(oldest - 1, "update z=0"), Superseded::Fields(vec![field("z")]));
    assert_eq!(told(oldest, "update z=0"), Superseded::Nothing);
}

fn arrivals_of(of: &Arrivals) -> Arrivals {
    Arrivals { document: of.document.clone(), deleted: of.deleted, count: of.count }
}

/// One edit of a path (none: the whole document), as the oracle remembers it.
#[derive(Clone, Debug)]
struct Edit {
    made: u64,
    path: Vec<String>,
    value: Option<Value>,
}

/// Keeps all edits since the document came to be and replays them in the order they were made.
#[derive(Default)]
struct Oracle {
    exists: bool,
    /// In order of arrival.
    edits: Vec<Edit>,
}

impl Oracle {
    fn replay(&self) -> Option<Fields> {
        let mut sorted: Vec<&Edit> = self.edits.iter().collect();
        sorted.sort_by_key(|edit| edit.made);
        let mut fields = Fields::new();
        for Edit { path, value, .. } in sorted {
            match (path.is_empty(), value) {
                (true, Some(Value::Map(whole))) => fields = whole.clone(),
                (true, _) => fields = Fields::new(),
                (false, value) => put(&mut fields, path, value.as_ref()),
            }
        }
        self.exists.then_some(fields)
    }

    /// Whether a path, or what it is in, was edited after then.
    fn is_late(&self, path: &[String], made: u64) -> bool {
        self.edits.iter().any(|edit| edit.made > made && path.starts_with(&edit.path))
    }

    /// The paths of the write that come too late; none if that is the whole write.
    fn arrive(&mut self, made: u64, write: &Write) -> Option<Vec<FieldPath>> {
        let mut late = Vec::new();
        match &write.op {
            WriteOp::Set(_) if self.is_late(&[], made) => return None,
            WriteOp::Update { .. } if !self.exists && self.is_late(&[], made) => return None,
            WriteOp::Delete if self.exists && self.edits.iter().any(|edit| edit.made > made) => {
                return None;
            }
            WriteOp::Set(fields) => {
                let value = Some(Value::Map(fields.clone()));
                self.edits.push(Edit { made, path: vec![], value });
                self.exists = true;
            }
            WriteOp::Update { fields, mask } => {
                for path in mask {
                    if self.is_late(path.segments(), made) {
                        late.push(path.clone());
                        continue;
                    }
                    let value = get(fields, path.segments()).cloned();
                    self.edits.push(Edit { made, path: path.segments().to_vec(), value });
                }
                self.exists = true;
            }
            WriteOp::Delete => {
                if self.exists {
                    self.edits.clear();
                }
                self.edits.push(Edit { made, path: vec![], value: None });
                self.exists = false;
            }
            WriteOp::Verify | WriteOp::Merge(_) => unreachable!("not generated"),
        }
        Some(late)
    }
}

/// Without empty maps: setting a field makes the maps that it is in, deleting it leaves them, and so
/// it is not said which of them a replay finds.
fn pruned(fields: &Fields) -> Fields {
    let kept = fields.iter().filter_map(|(name, value)| match value {
        Value::Map(inner) => {
            let inner = pruned(inner);
            (!inner.is_empty()).then(|| (name.clone(), Value::Map(inner)))
        }
        other => Some((name.clone(), other.clone())),
    });
    kept.collect()
}

fn get<'a>(fields: &'a Fields, path: &[String]) -> Option<&'a Value> {
    match (path, fields.get(path.first()?)?) {
        ([_], value) => Some(value),
        ([_, rest @ ..], Value::Map(inner)) => get(inner, rest),
        _ => None,
    }
}

fn put(fields: &mut Fields, path: &[String], value: Option<&Value>) {
    let (first, rest) = path.split_first().unwrap();
    match (rest.is_empty(), value) {
        (true, Some(value)) => {
            fields.insert(first.clone(), value.clone());
        }
        (true, None) => {
            fields.remove(first);
        }
        (false, Some(_)) => {
            let mut inner = match fields.remove(first) {
                Some(Value::Map(inner)) => inner,
                _ => Fields::new(),
            };
            put(&mut inner, rest, value);
            fields.insert(first.clone(), Value::Map(inner));
        }
        (false, None) => {
            if let Some(Value::Map(inner)) = fields.get_mut(first) {
                put(inner, rest, None);
            }
        }
    }
}

const PATHS: [&str; 7] = ["a", "a.x", "a.y", "a.x.p", "a.x.q", "b", "c"];

/// What a generated write does; its values are numbered afterwards, so that no two are alike.
#[derive(Clone, Debug)]
enum Plan {
    Set(Vec<usize>),
    Update(Vec<(usize, bool)>),
    Delete,
}

fn plan() -> impl Strategy<Value = Plan> {
    let path = 0..PATHS.len();
    prop_oneof![
        1 => prop::collection::vec(path.clone(), 0..4).prop_map(Plan::Set),
        6 => prop::collection::vec((path, prop::bool::weighted(0.8)), 1..4).prop_map(Plan::Update),
        1 => Just(Plan::Delete),
    ]
}

/// The write of a plan; with maps, what has fields inside it in other plans is always a map.
fn made_of(plan: &Plan, number: usize, maps: bool) -> Write {
    let shown = |path: usize, index: usize| {
        let colon = if maps && ["a", "a.x"].contains(&PATHS[path]) { ":" } else { "" };
        format!(" {}{colon}={}", PATHS[path], number * 10 + index)
    };
    let mut text = String::new();
    match plan {
        Plan::Set(paths) => {
            text += "set";
            for (index, path) in paths.iter().enumerate() {
                text += &shown(*path, index);
            }
        }
        Plan::Update(paths) => {
            text += "update";
            let mut taken: Vec<&str> = Vec::new();
            for (index, (path, sets)) in paths.iter().enumerate() {
                let (at, path) = (*path, PATHS[*path]);
                let within = |a: &str, b: &str| field(a).is_prefix_of(&field(b));
                if taken.iter().any(|other| within(other, path) || within(path, other)) {
                    continue;
                }
                taken.push(path);
                text += &if *sets { shown(at, index) } else { format!(" -{path}") };
            }
        }
        Plan::Delete => text += "delete",
    }
    write(&text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arrivals_end_as_a_replay_of_the_edits_in_the_order_they_were_made(
        plans in prop::collection::vec((1..12_u64, plan()), 1..16)
    ) {
        let (mut arrivals, mut oracle) = (Arrivals::default(), Oracle::default());
        for (number, (made, plan)) in plans.iter().enumerate() {
            let write = made_of(plan, number, true);
            let told = arrivals.arrive(Some(*made), &write).superseded;
            let late = oracle.arrive(*made, &write);
            let (found, expected) = (arrivals.fields().map(pruned), oracle.replay());
            prop_assert_eq!(found, expected.as_ref().map(pruned), "after {:?}", write);
            match (late, told) {
                (None, told) => prop_assert_eq!(told, Superseded::Whole),
                (Some(late), Superseded::Nothing) => prop_assert_eq!(late, vec![]),
                (Some(late), Superseded::Fields(told)) => {
                    // Also told is what was kept inside a path that was written.
                    for path in &late {
                        prop_assert!(told.contains(path), "{} is late", path);
                    }
                    for path in &told {
                        let after = |edit: &&Edit| edit.path == path.segments() && edit.made > *made;
                        let kept = oracle.edits.iter().any(|edit| after(&edit));
                        prop_assert!(late.contains(path) || kept, "{} was not late", path);
                    }
                }
                (Some(_), Superseded::Whole) => prop_assert!(false, "it is not late as a whole"),
            }
        }
    }

    #[test]
    fn sets_and_updates_end_the_same_in_whatever_order_they_arrive(
        plans in prop::collection::vec(plan(), 1..12),
        order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
    ) {
        let is_edit = |plan: &Plan| match plan {
            Plan::Set(_) => true,
            Plan::Update(paths) => paths.iter().all(|(_, sets)| *sets),
            Plan::Delete => false,
        };
        let writes: Vec<(u64, Write)> = plans
            .iter()
            .enumerate()
            .filter(|(_, plan)| is_edit(plan))
            .map(|(number, plan)| (number as u64 + 1, made_of(plan, number, false)))
            .collect();
        let mut in_order = Arrivals::default();
        for (made, write) in &writes {
            prop_assert_eq!(in_order.arrive(Some(*made), write).superseded, Superseded::Nothing);
        }
        let mut shuffled = Arrivals::default();
        for index in order {
            if let Some((made, write)) = writes.get(index) {
                shuffled.arrive(Some(*made), write);
            }
        }
        prop_assert_eq!(shuffled.fields(), in_order.fields());
    }
}
