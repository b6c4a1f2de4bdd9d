//! What a database holds: counted and summed, the same way at capture and after a restore.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Answer;
use super::session::{Session, full_name, identifier};
use crate::units::counted;

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its tables by their names, parts of a partitioned one each for itself.
    pub tables: BTreeMap<String, Content>,
    /// Its sequences.
    pub sequences: BTreeMap<String, Sequence>,
    /// Its large objects.
    pub large_objects: Content,
    /// What there is by kind (`relation`, `column`, `function` …), each with its names and what they stand for.
    pub objects: BTreeMap<String, Content>,
}

/// A number of things and what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many.
    pub rows: u64,
    /// The sum over `hashtextextended(text, 0)` of each; none of none.
    pub sum: Option<String>,
}

/// How far a sequence has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// The last number.
    pub last: i64,
    /// Whether it was given out.
    pub is_called: bool,
    /// By how much it counts.
    pub increment: i64,
}

impl Sequence {
    /// Whether `other` is this one, or further on. Sequences are in no view: `pg_dump` reads them later than we do, and under
    /// load numbers were given out meanwhile. Behind, it would give out a number twice.
    const fn is_reached_by(&self, other: &Self) -> bool {
        let further = if self.increment < 0 {
            other.last < self.last
        } else {
            other.last > self.last
        };
        let same = other.last == self.last && (other.is_called || !self.is_called);
        self.increment == other.increment && (further || same)
    }
}

/// Tables with rows of their own, and sequences: what is of the database, not of an extension.
const RELATIONS: &str = "SELECT n.nspname::text, c.relname::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = $1::text::\"char\" AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY 1, 2";

/// A line of each object. What two servers write differently (the text of a view, say) is not in it, but that it is there.
const OBJECTS: &str = "
WITH spaces AS (
    SELECT oid, nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'),
relations AS (
    SELECT c.*, format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN spaces n ON n.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')),
lines(kind, line) AS (
    SELECT 'relation', format('%s %s %s', relkind, name, relpersistence) FROM relations
    UNION ALL SELECT 'owner', format('%s %I', name, pg_get_userbyid(relowner)) FROM relations
    UNION ALL SELECT 'grant', format('%s %s %s %s', r.name, a.grantee::regrole, a.privilege_type, a.is_grantable)
        FROM relations r, aclexplode(coalesce(r.relacl,
            acldefault(CASE WHEN r.relkind = 'S' THEN 's' ELSE 'r' END::\"char\", r.relowner))) a
        WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND a.privilege_type <> 'MAINTAIN'
    UNION ALL SELECT 'column', format('%s.%I %s %s %s', r.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef)
        FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
        WHERE a.attnum > 0 AND NOT a.attisdropped AND r.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')
    UNION ALL SELECT 'constraint', format('%s %I %s %s', r.name, o.conname, o.contype, o.convalidated)
        FROM relations r JOIN pg_constraint o ON o.conrelid = r.oid WHERE o.contype IN ('c', 'f', 'p', 'u', 'x')
    UNION ALL SELECT 'trigger', format('%s %I %s', r.name, t.tgname, t.tgenabled)
        FROM relations r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal
    UNION ALL SELECT 'policy', format('%s %I', r.name, p.polname) FROM relations r JOIN pg_policy p ON p.polrelid = r.oid
    UNION ALL SELECT 'function', format('%I.%I(%s) %s %I %s', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid), p.prokind,
            pg_get_userbyid(p.proowner), hashtextextended(p.prosrc COLLATE \"C\", 0))
        FROM pg_proc p JOIN spaces n ON n.oid = p.pronamespace
        WHERE NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    UNION ALL SELECT 'type', format('%I.%I %s', n.nspname, t.typname, t.typtype)
        FROM pg_type t JOIN spaces n ON n.oid = t.typnamespace
        WHERE t.typtype IN ('d', 'e', 'r') AND NOT EXISTS (SELECT FROM pg_depend d
            WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
    UNION ALL SELECT 'label', format('%I.%I %s', n.nspname, t.typname, e.enumlabel)
        FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN spaces n ON n.oid = t.typnamespace
    UNION ALL SELECT 'extension', extname::text FROM pg_extension
    UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger)
SELECT kind, count(*), sum(hashtextextended(line COLLATE \"C\", 0)::numeric)::text FROM lines GROUP BY kind";

impl Fingerprint {
    /// Counts all that is in the database of a session.
    pub(super) fn of(session: &mut Session) -> Answer<Self> {
        let mut tables = BTreeMap::new();
        for row in session.rows(RELATIONS, &[&"r"])? {
            let (schema, table): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            // `record_out` and not a cast to text: a cast can be made by whoever owns the table, and would run with our rights.
            let sql = format!(
                "SELECT count(*), sum(hashtextextended(textin(record_out(one_row.*)) COLLATE \"C\", 0)::numeric)::text FROM ONLY {}.{} AS one_row",
                identifier(schema),
                identifier(table)
            );
            tables.insert(full_name(schema, table), content(session, &sql)?);
        }
        let mut sequences = BTreeMap::new();
        for row in session.rows(RELATIONS, &[&"S"])? {
            let (schema, name): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let sql = format!(
                "SELECT last_value, is_called, (SELECT seqincrement FROM pg_sequence WHERE seqrelid = one.tableoid) FROM {}.{} AS one",
                identifier(schema),
                identifier(name)
            );
            if let Some(found) = session.rows(&sql, &[])?.first() {
                let (last, is_called) = (found.try_get(0)?, found.try_get(1)?);
                let increment = found.try_get(2)?;
                sequences.insert(
                    full_name(schema, name),
                    Sequence {
                        last,
                        is_called,
                        increment,
                    },
                );
            }
        }
        let large_objects = content(
            session,
            "SELECT count(*), sum(hashtextextended(oid::text || ' ' || encode(sha256(lo_get(oid)), 'hex') COLLATE \"C\", 0)::numeric)::text
             FROM pg_largeobject_metadata",
        )?;
        let mut objects = BTreeMap::new();
        for row in session.rows(OBJECTS, &[])? {
            let (rows, sum): (i64, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
            let rows = u64::try_from(rows).unwrap_or(0);
            objects.insert(row.try_get(0)?, Content { rows, sum });
        }
        Ok(Self {
            tables,
            sequences,
            large_objects,
            objects,
        })
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> u64 {
        let rows = self.tables.values().map(|content| content.rows);
        rows.fold(0, u64::saturating_add)
    }

    /// As people read it.
    #[must_use]
    pub fn words(&self) -> String {
        let tables = counted(self.tables.len() as u64, "table");
        format!("{tables}, {}", counted(self.rows(), "row"))
    }

    /// The first thing in which another one differs from this one.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let tables = differs(&self.tables, &other.tables);
        if let Some((name, was, is)) = tables {
            return Some(format!("the table {name}: {}", content_differs(was, is)));
        }
        if let Some((name, was, is)) =
            differs_by(&self.sequences, &other.sequences, Sequence::is_reached_by)
        {
            let words = |one: Option<&Sequence>| {
                one.map_or_else(
                    || "is not there".to_owned(),
                    |one| format!("is at {}", one.last),
                )
            };
            return Some(format!(
                "the sequence {name} {}, and at capture it {}",
                words(is),
                words(was)
            ));
        }
        if self.large_objects != other.large_objects {
            let words = content_differs(Some(&self.large_objects), Some(&other.large_objects));
            return Some(format!("the large objects: {words}"));
        }
        let (kind, was, is) = differs(&self.objects, &other.objects)?;
        let number = |one: Option<&Content>| one.map_or(0, |one| one.rows);
        Some(if number(was) == number(is) {
            format!("of what there is of the kind `{kind}` something has another name or form")
        } else {
            format!(
                "there are {} of the kind `{kind}`, and {} were captured",
                number(is),
                number(was)
            )
        })
    }
}

/// One row of a count and a sum.
fn content(session: &mut Session, sql: &str) -> Answer<Content> {
    let rows = session.rows(sql, &[])?;
    let Some(row) = rows.first() else {
        return Err(super::Failure::new("a count has no row"));
    };
    let number: i64 = row.try_get(0)?;
    Ok(Content {
        rows: u64::try_from(number).unwrap_or(0),
        sum: row.try_get(1)?,
    })
}

/// The first entry that two maps do not have in common.
fn differs<'a, T: PartialEq>(
    was: &'a BTreeMap<String, T>,
    is: &'a BTreeMap<String, T>,
) -> Option<(&'a str, Option<&'a T>, Option<&'a T>)> {
    differs_by(was, is, T::eq)
}

/// The same where `fits` says what is as good as equal.
fn differs_by<'a, T>(
    was: &'a BTreeMap<String, T>,
    is: &'a BTreeMap<String, T>,
    fits: fn(&T, &T) -> bool,
) -> Option<(&'a str, Option<&'a T>, Option<&'a T>)> {
    let names = was
        .keys()
        .chain(is.keys().filter(|name| !was.contains_key(*name)));
    names
        .map(|name| (name.as_str(), was.get(name), is.get(name)))
        .find(|(_, was, is)| !matches!((was, is), (Some(was), Some(is)) if fits(was, is)))
}

fn content_differs(was: Option<&Content>, is: Option<&Content>) -> String {
    match (was, is) {
        (None, _) => "it is there, and was not captured".to_owned(),
        (_, None) => "it is not there".to_owned(),
        (Some(was), Some(is)) if was.rows != is.rows => {
            format!(
                "{}, and {} were captured",
                counted(is.rows, "row"),
                was.rows
            )
        }
        _ => "what is in its rows differs".to_owned(),
    }
}
