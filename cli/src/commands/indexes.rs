//! `indexes`: lists, declares and drops indexes and exemptions, and tells how far building them is.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemark_core::{FieldPath, IndexDefinition, IndexField, IndexMode, IndexScope};

use crate::admin::{Action, Admin};
use crate::args::{ClientArgs, ExemptionArgs, IndexCreateArgs, IndexImportArgs, IndexesCommand};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, note, printable};

/// How often progress is asked for.
const POLL: Duration = Duration::from_millis(250);
/// The largest file of indexes that is sent.
const FILE_BYTES: u64 = 1 << 20;

/// Does what was asked.
pub(crate) async fn run(command: &IndexesCommand) -> Outcome<u8> {
    match command {
        IndexesCommand::List(command) => list(&command.client).await,
        IndexesCommand::Create(command) => create(&command.client, &command.args).await,
        IndexesCommand::Drop(command) => {
            let (admin, mut out) = open(&command.client)?;
            let id = command.args.id;
            admin.ask(Action::Delete, &format!("indexes/{id}")).await?;
            report(&mut out, &json!({"type": "dropped", "id": id}), || {
                format!("index {id} is not used any more and is being dropped")
            })
        }
        IndexesCommand::Exempt(command) => exempt(&command.client, &command.args, true).await,
        IndexesCommand::Unexempt(command) => exempt(&command.client, &command.args, false).await,
        IndexesCommand::Import(command) => import(&command.client, &command.args).await,
    }
}

fn open(client: &ClientArgs) -> Outcome<(Admin, Output)> {
    Ok((Admin::new(client)?, Output::new(client.json)))
}

/// A line with `--json`, a note for people.
fn report(out: &mut Output, line: &Json, text: impl FnOnce() -> String) -> Outcome<u8> {
    if out.is_json() {
        out.line(line)?;
    } else {
        note(text());
    }
    out.flush()?;
    Ok(0)
}

async fn list(client: &ClientArgs) -> Outcome<u8> {
    let (admin, mut out) = open(client)?;
    let indexes = admin.ask(Action::Get, "indexes").await?;
    let exemptions = admin.ask(Action::Get, "exemptions").await?;
    let automatic = [indexes["automatic"].clone()];
    let lines = elements(&indexes["indexes"])
        .iter()
        .map(|index| ("index", index))
        .chain(elements(&exemptions["exemptions"]).iter().map(|field| ("exemption", field)))
        .chain(automatic.iter().map(|state| ("automatic", state)));
    for (kind, what) in lines {
        if out.is_json() {
            out.line(typed(kind, what))?;
            continue;
        }
        let (number, name) = match kind {
            "index" => (what["id"].to_string(), described(what)),
            "exemption" => ("-".to_owned(), described_exemption(what)),
            _ => ("-".to_owned(), "every field, automatically".to_owned()),
        };
        out.line(format_args!("{number:>4}  {:<48}  {}", printable(&name), state(what)))?;
    }
    out.flush()?;
    Ok(0)
}

async fn create(client: &ClientArgs, args: &IndexCreateArgs) -> Outcome<u8> {
    let (admin, mut out) = open(client)?;
    let fields: Outcome<Vec<IndexField>> = args.fields.iter().map(|text| field(text)).collect();
    let scope = if args.group { IndexScope::Group } else { IndexScope::Collection };
    let collection_id = args.collection.clone();
    let definition = IndexDefinition { collection_id, scope, fields: fields? };
    definition.validate()?;
    let mut index = admin.ask(Action::Post(to_json(&definition).to_string()), "indexes").await?;
    if args.wait {
        let id = index["id"].clone();
        wait(&admin, &BTreeSet::from([id.to_string()])).await?;
        let listing = admin.ask(Action::Get, "indexes").await?;
        let now = elements(&listing["indexes"]).iter().find(|index| index["id"] == id);
        index = now.cloned().unwrap_or(index);
    }
    report(&mut out, &typed("index", &index), || {
        format!("index {}, {}: {}", index["id"], described(&index), state(&index))
    })
}

async fn exempt(client: &ClientArgs, args: &ExemptionArgs, exempt: bool) -> Outcome<u8> {
    let (admin, mut out) = open(client)?;
    let (collection, field) = (&args.collection, &args.field);
    if field != "*" {
        FieldPath::parse(field)?;
    }
    let exemption = json!({"collectionGroup": collection, "fieldPath": field, "exempt": exempt});
    admin.ask(Action::Put(exemption.to_string()), "exemptions").await?;
    report(&mut out, &typed("exemption", &exemption), || described_exemption(&exemption))
}

async fn import(client: &ClientArgs, args: &IndexImportArgs) -> Outcome<u8> {
    let (admin, mut out) = open(client)?;
    let text = read(&args.file)?;
    let answer = admin.ask(Action::Post(text), "indexes").await?;
    let created = elements(&answer["created"]);
    if args.wait {
        let ids: BTreeSet<String> = created.iter().map(|index| index["id"].to_string()).collect();
        wait(&admin, &ids).await?;
    }
    let ids: Vec<&Json> = created.iter().map(|index| &index["id"]).collect();
    let exemptions = elements(&answer["exemptions"]).len();
    let line = json!({"type": "imported", "created": ids, "exemptions": exemptions});
    report(&mut out, &line, || {
        let count = created.len();
        format!("{count} indexes created, {exemptions} exemptions; those that were there are kept")
    })
}

fn read(path: &Path) -> Outcome<String> {
    let failed = |error: std::io::Error| Failure::io(path.display(), &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_BYTES {
        let message = format!("{} has more than {FILE_BYTES} bytes", path.display());
        return Err(Failure::usage(message));
    }
    let json: Json = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{} is not JSON: {error}", path.display())))?;
    // A whole file and a single index are told apart by this.
    if json.get("indexes").is_none() && json.get("fieldOverrides").is_none() {
        let message = format!("{} has neither `indexes` nor `fieldOverrides`", path.display());
        return Err(Failure::usage(message));
    }
    Ok(text)
}

/// Waits until these indexes are built, and tells how far they are.
async fn wait(admin: &Admin, ids: &BTreeSet<String>) -> Outcome<()> {
    let mut told = String::new();
    loop {
        let listing = admin.ask(Action::Get, "indexes").await?;
        let building: Vec<String> = elements(&listing["indexes"])
            .iter()
            .filter(|index| ids.contains(&index["id"].to_string()) && index["state"] == "BUILDING")
            .map(|index| format!("index {}: {}", index["id"], state(index)))
            .collect();
        if building.is_empty() {
            return Ok(());
        }
        let text = building.join(", ");
        if text != told {
            note(&text);
            told = text;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The command that creates an index.
pub(super) fn create_command(definition: &IndexDefinition) -> String {
    let mut command = format!("tidemark indexes create {}", shell(&definition.collection_id));
    for IndexField { field, mode } in &definition.fields {
        let suffix = match mode {
            IndexMode::Ascending => "",
            IndexMode::Descending => ":desc",
            IndexMode::Contains => ":contains",
        };
        command.push(' ');
        command.push_str(&shell(&format!("{field}{suffix}")));
    }
    match definition.scope {
        IndexScope::Collection => {}
        IndexScope::Group => command.push_str(" --group"),
    }
    command
}

/// A word of a command, in quotes if a shell would see more in it.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `FIELD`, `FIELD:desc` or `FIELD:contains`.
fn field(text: &str) -> Outcome<IndexField> {
    let modes = [
        (":asc", IndexMode::Ascending),
        (":desc", IndexMode::Descending),
        (":contains", IndexMode::Contains),
    ];
    let suffixed =
        modes.iter().find_map(|(suffix, mode)| Some((text.strip_suffix(suffix)?, *mode)));
    let (name, mode) = suffixed.unwrap_or((text, IndexMode::Ascending));
    Ok(IndexField { field: FieldPath::parse(name)?, mode })
}

fn to_json(definition: &IndexDefinition) -> Json {
    let field = |IndexField { field, mode }: &IndexField| match mode {
        IndexMode::Ascending => json!({"fieldPath": field.to_string(), "order": "ASCENDING"}),
        IndexMode::Descending => json!({"fieldPath": field.to_string(), "order": "DESCENDING"}),
        IndexMode::Contains => {
            json!({"fieldPath": field.to_string(), "arrayConfig": "CONTAINS"})
        }
    };
    let scope = match definition.scope {
        IndexScope::Collection => "COLLECTION",
        IndexScope::Group => "COLLECTION_GROUP",
    };
    json!({
        "collectionGroup": definition.collection_id,
        "queryScope": scope,
        "fields": definition.fields.iter().map(field).collect::<Vec<_>>(),
    })
}

fn elements(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn typed(kind: &str, json: &Json) -> Json {
    let mut line = json!({"type": kind});
    if let (Json::Object(line), Json::Object(members)) = (&mut line, json) {
        line.extend(members.clone());
    }
    line
}

fn text<'a>(json: &'a Json, name: &str) -> &'a str {
    json[name].as_str().unwrap_or_default()
}

/// `group messages(from, seq desc)`
fn described(index: &Json) -> String {
    let field = |field: &Json| {
        let mode = match (text(field, "order"), text(field, "arrayConfig")) {
            ("DESCENDING", _) => " desc",
            (_, "CONTAINS") => " contains",
            _ => "",
        };
        format!("{}{mode}", text(field, "fieldPath"))
    };
    let fields: Vec<String> = elements(&index["fields"]).iter().map(field).collect();
    let group = if text(index, "queryScope") == "COLLECTION_GROUP" { "group " } else { "" };
    format!("{group}{}({})", text(index, "collectionGroup"), fields.join(", "))
}

fn described_exemption(exemption: &Json) -> String {
    let (collection, field) = (text(exemption, "collectionGroup"), text(exemption, "fieldPath"));
    let field = if field == "*" { "all fields" } else { field };
    let not = if exemption["exempt"] == true { "not " } else { "" };
    format!("{field} of {collection}: {not}indexed automatically")
}

fn state(what: &Json) -> String {
    let state = text(what, "state").to_lowercase();
    let progress = &what["progress"];
    match (progress["done"].as_u64(), progress["about"].as_u64().unwrap_or_default()) {
        (None, _) => state,
        (Some(done), 0) => format!("{state}, {done} done"),
        (Some(done), about) => format!("{state}, {done} of about {about} done"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_suggested_command_makes_the_suggested_index() {
        let fields = ["from", "`a b`.c:desc", "tags:contains"];
        let definition = IndexDefinition {
            collection_id: "messages".to_owned(),
            scope: IndexScope::Group,
            fields: fields.iter().map(|text| field(text).unwrap()).collect(),
        };
        assert_eq!(
            create_command(&definition),
            "tidemark indexes create messages from '`a b`.c:desc' tags:contains --group"
        );
        let json = to_json(&definition);
        assert_eq!(described(&json), "group messages(from, `a b`.c desc, tags contains)");
        assert_eq!(described(&json), definition.to_string());
    }

    #[test]
    fn words_are_safe_in_a_shell() {
        assert_eq!(shell("a.b"), "a.b");
        assert_eq!(shell("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(shell(""), "''");
    }

    #[test]
    fn progress_is_readable() {
        let of = |json| state(&json);
        assert_eq!(of(json!({"state": "READY"})), "ready");
        let building = json!({"state": "BUILDING", "progress": {"done": 3, "about": 10}});
        assert_eq!(of(building), "building, 3 of about 10 done");
        let dropping = json!({"state": "DROPPING", "progress": {"done": 3, "about": 0}});
        assert_eq!(of(dropping), "dropping, 3 done");
    }
}
