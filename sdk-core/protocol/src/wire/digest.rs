//! Digests between bytes and the model.

use super::fault::Fault;
use super::reader::Reader;
use super::server::DigestResult;
use super::writer;
use crate::model::{DigestAnswer, DigestNode, DigestPart, DocumentPath, Fingerprint, Version};

/// Appends the fields of a DigestNode.
pub(super) fn write_node(node: DigestNode, out: &mut Vec<u8>) {
    writer::put_uint(1, node.depth.into(), out);
    writer::put_fixed(2, node.prefix, out);
}

/// Reads a DigestNode.
pub(super) fn read_node(mut reader: Reader<'_>) -> Result<DigestNode, Fault> {
    let mut node = DigestNode { depth: 0, prefix: 0 };
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => node.depth = reader.uint32(wire_type)?,
            2 => node.prefix = reader.fixed64(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    if node.depth > 16 {
        let found = node.depth;
        return Err(Fault::invalid(format!("a branch has the depth {found}; the deepest is 16")));
    }
    let rest = u64::MAX.checked_shr(4 * node.depth).unwrap_or(0);
    if node.prefix & rest != 0 {
        return Err(Fault::invalid("the prefix of a branch is longer than its depth"));
    }
    Ok(node)
}

/// Appends the fields of a DigestResult.
pub(super) fn write_result(result: &DigestResult, out: &mut Vec<u8>) {
    writer::put_uint(1, result.request.into(), out);
    writer::put_fixed(2, result.version.0, out);
    for answer in &result.nodes {
        writer::message(3, out, |out| write_answer(answer, out));
    }
}

fn write_answer(answer: &DigestAnswer, out: &mut Vec<u8>) {
    writer::message(1, out, |out| write_node(answer.node, out));
    match &answer.part {
        DigestPart::Members(members) => {
            for (path, version) in members {
                writer::message(2, out, |out| {
                    writer::put_bytes(1, path.as_str().as_bytes(), out);
                    writer::put_fixed(2, version.0, out);
                });
            }
        }
        DigestPart::Children(children) => {
            for child in children {
                writer::message(3, out, |out| {
                    writer::put_uint(1, child.count.into(), out);
                    writer::put_fixed(2, child.sum, out);
                });
            }
        }
    }
}

/// Reads a DigestResult.
pub(super) fn read_result(mut reader: Reader<'_>) -> Result<DigestResult, Fault> {
    let mut result = DigestResult::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => result.request = reader.uint32(wire_type)?,
            2 => result.version = Version(reader.fixed64(wire_type)?),
            3 => result.nodes.push(read_answer(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok(result)
}

fn read_answer(mut reader: Reader<'_>) -> Result<DigestAnswer, Fault> {
    let mut node = DigestNode { depth: 0, prefix: 0 };
    let (mut members, mut children) = (Vec::new(), Vec::new());
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => node = read_node(reader.message(wire_type)?)?,
            2 => members.push(read_member(reader.message(wire_type)?)?),
            3 => children.push(read_fingerprint(reader.message(wire_type)?)?),
            _ => reader.skip(tag)?,
        }
    }
    let part = match <[Fingerprint; 16]>::try_from(children) {
        Ok(children) => DigestPart::Children(children),
        Err(none) if none.is_empty() => DigestPart::Members(members),
        Err(some) => {
            let found = some.len();
            return Err(Fault::invalid(format!("a branch has {found} branches; it has 16")));
        }
    };
    Ok(DigestAnswer { node, part })
}

fn read_member(mut reader: Reader<'_>) -> Result<(DocumentPath, Version), Fault> {
    let (mut path, mut version) = ("", Version::NONE);
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => path = reader.text(wire_type)?,
            2 => version = Version(reader.fixed64(wire_type)?),
            _ => reader.skip(tag)?,
        }
    }
    Ok((DocumentPath::parse(path)?, version))
}

fn read_fingerprint(mut reader: Reader<'_>) -> Result<Fingerprint, Fault> {
    let mut fingerprint = Fingerprint::default();
    while let Some(tag @ (number, wire_type)) = reader.tag()? {
        match number {
            1 => fingerprint.count = reader.uint32(wire_type)?,
            2 => fingerprint.sum = reader.fixed64(wire_type)?,
            _ => reader.skip(tag)?,
        }
    }
    Ok(fingerprint)
}
