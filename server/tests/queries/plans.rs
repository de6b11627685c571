//! Which indexes answer which shape of query: the plans, as explanations tell them.

use expect_test::{Expect, expect};
use tidemark_protocol::model::*;

use crate::world::{World, collection, definition, field, path};

/// A few documents in two collections of the group `c`, and declared indexes on some fields.
async fn world() -> World {
    let mut world = World::new().await;
    let document = |(at, collection): (i64, &str)| {
        let fields = [("a", at % 3), ("b", at % 5), ("x", at), ("t", 1)];
        let mut fields: Fields = fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::Integer(value)))
            .collect();
        fields.insert("l".to_owned(), Value::from(vec![at % 4, 9]));
        (path(&format!("{collection}/d{at:02}")), fields)
    };
    world.set((0..60).map(|at| (at, "c")).map(document)).await;
    world.set((0..60).map(|at| (at, "r/1/c")).map(document)).await;
    for (scope, fields) in [
        (IndexScope::Collection, "a, x desc"),
        (IndexScope::Collection, "l contains, b"),
        (IndexScope::Collection, "a, b, t"),
        (IndexScope::Group, "x"),
    ] {
        world.index(definition("c", scope, fields)).await;
    }
    world.database.exempt("c", Some(field("t")), true).await.unwrap();
    world.database.indexes_settled().await.unwrap();
    world
}

async fn told(world: &mut World, query: &Query) -> String {
    query.validate().unwrap();
    let (documents, explanation) = world.explained(query).await;
    let mut text = explanation.steps.join("\n");
    text.push_str(&format!(
        "\n{} entries, {} documents, {} results\n",
        explanation.entries_scanned,
        explanation.documents_read,
        documents.len()
    ));
    if let Some(index) = explanation.suggestion {
        text.push_str(&format!("suggests {index}\n"));
    }
    text
}

async fn all_told(queries: &[(&str, Query)], expected: Expect) {
    let mut world = world().await;
    let mut text = String::new();
    for (name, query) in queries {
        let told = told(&mut world, query).await;
        text.push_str(&format!("# {name}\n{told}\n"));
    }
    expected.assert_eq(&text);
}

fn c() -> Query {
    collection("c")
}

fn name(text: &str) -> Value {
    Value::Reference(path(text))
}

#[tokio::test]
async fn one_index_answers_alone() {
    use Direction::{Ascending, Descending};
    use Operator::*;
    let down = |query: Query, name: &str| query.with_order(field(name), Descending);
    all_told(
        &[
            ("everything", c()),
            (
                "by name, backward",
                c().with_order(FieldPath::document_id(), Descending).with_limit(2),
            ),
            (
                "a range of names",
                c().with_filter(FieldPath::document_id(), GreaterThan, name("c/d55")),
            ),
            (
                "one name",
                c().with_filter(FieldPath::document_id(), Equal, name("c/d05")).with_filter(
                    field("a"),
                    Equal,
                    2,
                ),
            ),
            ("an equality", c().with_filter(field("a"), Equal, 1).with_limit(5)),
            ("an element", c().with_filter(field("l"), ArrayContains, 1).with_limit(5)),
            ("a range", c().with_filter(field("b"), GreaterThan, 3)),
            ("not equal", c().with_filter(field("a"), NotEqual, 1)),
            ("an order", down(c(), "x").with_limit(3)),
            (
                "an equality and an order",
                down(c().with_filter(field("a"), Equal, 1), "x").with_limit(3),
            ),
            (
                "an equality and an order, turned around",
                c().with_filter(field("a"), Equal, 1)
                    .with_order(field("x"), Ascending)
                    .with_limit(3),
            ),
            (
                "an element and a range",
                c().with_filter(field("l"), ArrayContains, 1).with_filter(field("b"), LessThan, 3),
            ),
            (
                "a page",
                down(c().with_filter(field("a"), Equal, 1), "x")
                    .with_start(Cursor { values: vec![Value::from(30)], before: false })
                    .with_limit(3),
            ),
            (
                "a group by its index",
                Query::group("c").with_filter(field("x"), GreaterThan, 40).with_limit(4),
            ),
        ],
        expect![[r#"
            # everything
            scan documents
            60 entries, 60 documents, 60 results

            # by name, backward
            scan documents backward
            2 entries, 2 documents, 2 results

            # a range of names
            scan documents: __name__ range
            4 entries, 4 documents, 4 results

            # one name
            get 1 documents by name
            0 entries, 1 documents, 1 results

            # an equality
            scan index c(a): a equal
            5 entries, 5 documents, 5 results

            # an element
            scan index c(l contains): l contains
            5 entries, 5 documents, 5 results

            # a range
            scan index c(b): b range
            12 entries, 12 documents, 12 results

            # not equal
            scan index c(a): a range
            40 entries, 40 documents, 40 results

            # an order
            scan index c(x) backward
            3 entries, 3 documents, 3 results

            # an equality and an order
            scan index c(a, x desc): a equal
            3 entries, 3 documents, 3 results

            # an equality and an order, turned around
            scan index c(a, x desc) backward: a equal
            3 entries, 3 documents, 3 results

            # an element and a range
            scan index c(l contains, b): l contains, b range
            9 entries, 9 documents, 9 results

            # a page
            scan index c(a, x desc): a equal, from the start
            3 entries, 3 documents, 3 results

            # a group by its index
            scan index group c(x): x range
            4 entries, 4 documents, 4 results

        "#]],
    )
    .await;
}

#[tokio::test]
async fn several_are_put_together() {
    use Direction::{Ascending, Descending};
    use Operator::*;
    let either = |filters: Vec<Filter>| c().and(Filter::Or(filters));
    let is = |name: &str, operator, value: i32| {
        Filter::Field(FieldFilter { field: field(name), operator, value: Value::from(value) })
    };
    all_told(
        &[
            (
                "two equalities",
                c().with_filter(field("b"), Equal, 1).with_filter(field("x"), Equal, 31),
            ),
            (
                "an equality and an order without an index for both",
                c().with_filter(field("b"), Equal, 1)
                    .with_order(field("x"), Ascending)
                    .with_limit(3),
            ),
            (
                "an equality and a range without an index for both",
                c().with_filter(field("b"), Equal, 1).with_filter(field("x"), GreaterThan, 50),
            ),
            (
                "an order that an index has in part",
                c().with_order(field("b"), Ascending)
                    .with_order(field("x"), Descending)
                    .with_limit(4),
            ),
            ("in", c().with_filter(field("b"), In, vec![1, 2]).with_limit(4)),
            (
                "or, in an order",
                either(vec![is("a", Equal, 1), is("l", ArrayContains, 1)])
                    .with_order(field("x"), Descending)
                    .with_limit(4),
            ),
            (
                "names and a condition",
                either(vec![
                    Filter::Field(FieldFilter {
                        field: FieldPath::document_id(),
                        operator: In,
                        value: Value::Array(vec![name("c/d01"), name("c/d02")]),
                    }),
                    is("x", Equal, 40),
                ]),
            ),
            ("what is not indexed", c().with_filter(field("t"), Equal, 1).with_limit(2)),
            (
                "a group without its index, by name",
                Query::group("c").with_filter(field("a"), Equal, 1).with_limit(3),
            ),
            (
                "a group without its index, by a field",
                Query::group("c").with_order(field("b"), Ascending).with_limit(3),
            ),
        ],
        expect![[r#"
            # two equalities
            intersect 2 lists, the shortest first
              scan index c(b): b equal; check documents
              scan index c(x): x equal; check documents
            decided: read c(x) alone
            13 entries, 1 documents, 1 results

            # an equality and an order without an index for both
            whichever is done first
              sort
                scan index c(b): b equal; check documents
              scan index c(x); check documents
            decided: done first: c(b)
            12 entries, 12 documents, 3 results
            suggests c(b, x)

            # an equality and a range without an index for both
            whichever is done first
              sort
                scan index c(b): b equal; check documents
              scan index c(x): x range; check documents
            decided: done first: c(b)
            12 entries, 12 documents, 2 results

            # an order that an index has in part
            sort where the first 1 of 3 are equal
              scan index c(b); check documents
            28 entries, 28 documents, 4 results

            # in
            merge 2 conditions
              scan index c(b): b equal
              scan index c(b): b equal
            6 entries, 6 documents, 4 results

            # or, in an order
            merge 2 conditions
              scan index c(a, x desc): a equal
              whichever is done first
                sort
                  scan index c(l contains): l contains; check documents
                scan index c(x) backward; check documents
            decided: done first: c(l contains)
            19 entries, 19 documents, 4 results
            suggests c(l contains, x desc)

            # names and a condition
            merge 2 conditions
              get 2 documents by name
              scan index c(x): x equal
            1 entries, 3 documents, 3 results

            # what is not indexed
            scan documents; check documents
            4 entries, 4 documents, 2 results

            # a group without its index, by name
            merge the collections c (1 opened)
              scan index c(a): a equal
            5 entries, 3 documents, 3 results

            # a group without its index, by a field
            merge the collections c (2 opened)
              scan index c(b)
            8 entries, 6 documents, 3 results

        "#]],
    )
    .await;
}
