//! What the fuzz targets check on any bytes. The tests replay the kept corpus through the same
//! functions, so that plain `cargo test` covers it.

use bytes::Bytes;
use tidemark_protocol::model::limits;
use tidemark_protocol::wire::codec;

/// A client frame is refused, or means the same after it is written again.
pub fn decode_client(bytes: &[u8]) {
    if let Ok(message) = codec::decode_client(&Bytes::copy_from_slice(bytes), limits::REQUEST_BYTES)
    {
        let again = codec::encode_client(&message);
        assert_eq!(codec::decode_client(&again, usize::MAX), Ok(message));
    }
}

/// A server frame is refused, or means the same after it is written again; so do its documents.
pub fn decode_server(bytes: &[u8]) {
    if let Ok(message) = codec::decode_server(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(codec::decode_server(&codec::encode_server(&message)), Ok(message));
    }
}

/// A document is refused, or means the same after it is written again, and peeking agrees.
pub fn decode_document(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let peeked = codec::peek_document(&bytes);
    if let Ok(document) = codec::decode_document(&bytes) {
        let header = (document.path.as_str(), document.create_version, document.update_version);
        assert_eq!(peeked, Ok(header));
        assert_eq!(
            codec::decode_document(&codec::encode_document(&document)),
            Ok(document.clone())
        );
    }
}
