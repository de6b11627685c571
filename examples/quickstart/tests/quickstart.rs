//! The README's code does what the README says, twice.
#![allow(clippy::unwrap_used)]

use tidemark_server::config::{Config, StoreUrl};
use tidemark_server::server::Server;
use tokio::process::Command;

#[tokio::test]
async fn it_prints_its_own_messages_and_ends() {
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store: StoreUrl::Url("mem:".to_owned()),
        ..Config::default()
    };
    let server = Server::start(config).await.unwrap();
    for _ in 0..2 {
        let binary = env!("CARGO_BIN_EXE_tidemark-quickstart");
        let output = Command::new(binary).arg(server.url()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed, "Added Bernardo: Who's there?\nAdded Francisco: Nay, answer me.\n");
    }
    server.shutdown().await.unwrap();
}
