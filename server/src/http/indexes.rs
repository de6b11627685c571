//! `/v1/projects/{project}/databases/{database}/indexes` and `…/exemptions`: the indexes of a
//! database, in the words of Firebase's `firestore.indexes.json` (their shape is in [`json`]).

mod json;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemark_protocol::model::{Code, ModelError};

use self::json::{ExemptionBody, Import, Posted};
use super::error::HttpError;
use crate::engine::{Database, EngineError};
use crate::session::Host;
use crate::session::state::DATABASE;

/// Bytes of a request: a file of several hundred indexes has some ten thousand.
const BODY_BYTES: usize = 1 << 20;

pub(super) fn routes() -> Router<Arc<Host>> {
    const BASE: &str = "/v1/projects/{project}/databases/{database}";
    Router::new()
        .route(&format!("{BASE}/indexes"), get(list).post(create))
        .route(&format!("{BASE}/indexes/{{id}}"), delete(drop_index))
        .route(&format!("{BASE}/exemptions"), get(exemptions).put(exempt))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
}

/// Names a database in a path.
type Names = Path<(String, String)>;
type Answer = Result<Json<Value>, HttpError>;
type Body = Result<Bytes, BytesRejection>;

async fn list(State(host): State<Arc<Host>>, Path((project, name)): Names) -> Answer {
    let database = database(&host, &project, &name)?;
    Ok(Json(json::list(&database.indexes(), database.automatic_build())))
}

async fn create(State(host): State<Arc<Host>>, Path((project, name)): Names, body: Body) -> Answer {
    let database = database(&host, &project, &name)?;
    match Posted::parse(parse(body)?)? {
        Posted::One(definition) => Ok(Json(json::index(&database.create_index(definition).await?))),
        Posted::File(import) => import_file(database, import).await,
    }
}

/// Creates what is missing; what is there already stays as it is.
async fn import_file(database: &Database, import: Import) -> Answer {
    let mut created = Vec::new();
    for definition in import.indexes {
        match database.create_index(definition).await {
            Ok(status) => created.push(status),
            Err(EngineError::Model(error)) if error.code == Code::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    for exemption in import.exemptions {
        let json::Exemption { collection_id, field, exempt } = exemption;
        database.exempt(&collection_id, field, exempt).await?;
    }
    Ok(Json(json::imported(&created, &database.exemptions())))
}

async fn drop_index(
    State(host): State<Arc<Host>>,
    Path((project, name, id)): Path<(String, String, String)>,
) -> Answer {
    let database = database(&host, &project, &name)?;
    let id: u32 = id.parse().map_err(|_| {
        HttpError::new(Code::InvalidArgument, format!("{id:?} is no number of an index"))
    })?;
    database.drop_index(id).await?;
    Ok(Json(Value::Object(serde_json::Map::new())))
}

async fn exemptions(State(host): State<Arc<Host>>, Path((project, name)): Names) -> Answer {
    let database = database(&host, &project, &name)?;
    Ok(Json(json::exemptions(&database.exemptions())))
}

async fn exempt(State(host): State<Arc<Host>>, Path((project, name)): Names, body: Body) -> Answer {
    let database = database(&host, &project, &name)?;
    let body: ExemptionBody = parse(body)?;
    let json::Exemption { collection_id, field, exempt } = body.read()?;
    database.exempt(&collection_id, field, exempt).await?;
    Ok(Json(json::exemptions(&database.exemptions())))
}

fn database<'a>(host: &'a Host, project: &str, name: &str) -> Result<&'a Database, HttpError> {
    let served = &host.rules.project;
    if project != served || name != DATABASE {
        let message = format!(
            "there is no database {name:?} of the project {project:?} here; the database is \
             {DATABASE:?} of {served:?}"
        );
        return Err(HttpError::new(Code::NotFound, message));
    }
    host.database().map_err(|unready| HttpError::new(Code::Unavailable, unready.to_string()))
}

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, HttpError> {
    let body = body.map_err(|rejection| {
        let message = format!("{} (at most {BODY_BYTES} bytes)", rejection.body_text());
        HttpError::with_status(rejection.status(), Code::InvalidArgument, message)
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        HttpError::new(Code::InvalidArgument, format!("the body is not what is expected: {error}"))
    })
}

impl From<EngineError> for HttpError {
    fn from(error: EngineError) -> HttpError {
        let status = error.status();
        HttpError::new(status.code, status.message)
    }
}

impl From<ModelError> for HttpError {
    fn from(error: ModelError) -> HttpError {
        HttpError::new(error.code, error.message)
    }
}
