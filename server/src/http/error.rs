//! Errors as Firestore's REST interface words them: `{"error":{"code","message","status"}}`.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tidemark_protocol::model::Code;

/// An error as an HTTP response.
#[derive(Debug)]
pub(super) struct HttpError {
    http: StatusCode,
    code: Code,
    message: String,
}

impl HttpError {
    /// An error with the HTTP status of its code.
    pub(super) fn new(code: Code, message: impl Into<String>) -> HttpError {
        let http =
            StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        HttpError { http, code, message: message.into() }
    }

    /// An error for which HTTP has a status of its own.
    pub(super) fn with_status(
        http: StatusCode,
        code: Code,
        message: impl Into<String>,
    ) -> HttpError {
        HttpError { http, code, message: message.into() }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let body = json!({ "error": {
            "code": self.http.as_u16(),
            "message": self.message,
            "status": self.code.status_name(),
        }});
        (self.http, Json(body)).into_response()
    }
}

pub(super) async fn not_found(uri: Uri) -> HttpError {
    HttpError::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
}

pub(super) async fn wrong_method(method: Method, uri: Uri) -> HttpError {
    HttpError {
        http: StatusCode::METHOD_NOT_ALLOWED,
        code: Code::Unimplemented,
        message: format!("{} does not answer {method}", uri.path()),
    }
}
