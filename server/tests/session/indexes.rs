//! The resources of indexes and exemptions.

use serde_json::{Value, json};
use tidemark_server::server::RunningServer;

use crate::raw::{Raw, config, serve, tcp};

const BASE: &str = "/v1/projects/default/databases/(default)";

/// Asks, and returns the status and the body.
async fn ask(server: &RunningServer, method: &str, path: &str, body: &str) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let answer = tcp(server, request.as_bytes()).await;
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}

async fn indexes(server: &RunningServer, method: &str, body: &Value) -> (u16, Value) {
    ask(server, method, &format!("{BASE}/indexes"), &body.to_string()).await
}

fn talks(fields: &Value) -> Value {
    json!({ "collectionGroup": "talks", "queryScope": "COLLECTION", "fields": fields })
}

#[tokio::test]
async fn indexes_are_created_listed_and_dropped() {
    let server = serve(config()).await;
    let mut raw = Raw::join(&server, 1).await;
    raw.set(1, "talks/a", "hi").await;
    let fields = json!([
        { "fieldPath": "room", "order": "DESCENDING" },
        { "fieldPath": "tags", "arrayConfig": "CONTAINS" },
    ]);
    let (status, created) = indexes(&server, "POST", &talks(&fields)).await;
    assert_eq!((status, &created["id"], &created["fields"]), (200, &json!(1), &fields));
    server.database().indexes_settled().await.unwrap();

    let (status, listed) = indexes(&server, "GET", &Value::Null).await;
    let mut index = talks(&fields);
    index["id"] = 1.into();
    index["state"] = "READY".into();
    let expected = json!({ "indexes": [index], "automatic": { "state": "READY" } });
    assert_eq!((status, listed), (200, expected));

    let (status, error) = indexes(&server, "POST", &talks(&fields)).await;
    assert_eq!((status, &error["error"]["status"]), (409, &json!("ALREADY_EXISTS")));
    let one = format!("{BASE}/indexes/1");
    assert_eq!(ask(&server, "DELETE", &one, "").await, (200, json!({})));
    server.database().indexes_settled().await.unwrap();
    let (status, error) = ask(&server, "DELETE", &one, "").await;
    assert_eq!((status, &error["error"]["status"]), (404, &json!("NOT_FOUND")));
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn fields_are_exempted_and_files_imported() {
    let server = serve(config()).await;
    let path = format!("{BASE}/exemptions");
    let body = json!({ "collectionGroup": "talks", "fieldPath": "text", "exempt": true });
    let (status, _) = ask(&server, "PUT", &path, &body.to_string()).await;
    assert_eq!(status, 200);
    server.database().indexes_settled().await.unwrap();
    let text = json!({
        "collectionGroup": "talks", "fieldPath": "text", "exempt": true, "state": "READY",
    });
    let (_, listed) = ask(&server, "GET", &path, "").await;
    assert_eq!(listed, json!({ "exemptions": [text] }));

    let field = |path: &str| json!([{ "fieldPath": path, "order": "ASCENDING" }]);
    let file = json!({
        "indexes": [talks(&field("room")), talks(&field("day"))],
        "fieldOverrides": [{ "collectionGroup": "talks", "fieldPath": "*", "indexes": [] }],
    });
    let (status, imported) = indexes(&server, "POST", &file).await;
    assert_eq!((status, imported["created"].as_array().unwrap().len()), (200, 2));
    assert_eq!(imported["exemptions"].as_array().unwrap().len(), 2);
    let (status, imported) = indexes(&server, "POST", &file).await;
    assert_eq!((status, &imported["created"]), (200, &json!([])), "nothing new");
    server.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_malformed_gets_a_typed_error() {
    let server = serve(config()).await;
    let path = format!("{BASE}/indexes");
    let ascending = json!([{ "fieldPath": "a", "order": "ASCENDING" }]);
    // Nothing of a file is done when a part of it is wrong.
    let half = json!({ "indexes": [talks(&ascending), talks(&json!([]))] }).to_string();
    for (method, path, body, expected) in [
        ("POST", &*path, "", 400),
        ("POST", &path, "[]", 400),
        ("POST", &path, "{\"collectionGroup\":7}", 400),
        ("POST", &path, &half, 400),
        ("DELETE", &format!("{path}/x"), "", 400),
        ("DELETE", &format!("{path}/99999999999"), "", 400),
        ("DELETE", &path, "", 405),
        ("PUT", &format!("{BASE}/exemptions"), "{}", 400),
        ("GET", "/v1/projects/other/databases/(default)/indexes", "", 404),
        ("GET", "/v1/projects/default/databases/other/indexes", "", 404),
        ("POST", &path, &" ".repeat((1 << 20) + 1), 413),
    ] {
        let (status, answer) = ask(&server, method, path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        assert_eq!(answer["error"]["code"], expected, "{answer}");
        assert!(answer["error"]["message"].is_string(), "{answer}");
    }
    assert_eq!(server.database().indexes(), []);
    server.shutdown().await.unwrap();
}
