//! The rights census: everything that our role cannot read, all at once and before anything is dumped.

use super::session::{Session, full_name, identifier};
use super::{Answer, Failure};

/// Most that is named one by one.
const MAX_NAMED: usize = 10;

/// Fails if the role cannot read all of the database.
pub fn require(session: &mut Session) -> Answer<()> {
    let rows = session.rows(
        "SELECT n.nspname::text, c.relname::text, c.relkind::text,
                has_schema_privilege(n.oid, 'USAGE')
                  AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                           ELSE has_table_privilege(c.oid, 'SELECT') END,
                row_security_active(c.oid)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
           AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
         ORDER BY 1, 2",
        &[],
    )?;
    let (mut closed, mut filtered) = (Vec::new(), Vec::new());
    for row in &rows {
        let name = full_name(row.try_get(0)?, row.try_get(1)?);
        if !row.try_get::<_, bool>(3)? {
            let kind: &str = row.try_get(2)?;
            closed.push(match kind {
                "S" => format!("sequence {name}"),
                _ => format!("table {name}"),
            });
        } else if row.try_get(4)? {
            filtered.push(format!("table {name}"));
        }
    }
    let objects: i64 = session.value(
        "SELECT count(*) FROM pg_largeobject_metadata m
         WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
           AND NOT pg_has_role(m.lomowner, 'USAGE')
           AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a
                WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))",
        &[],
    )?;
    if objects > 0 {
        closed.push(format!("{objects} large objects"));
    }
    if closed.is_empty() && filtered.is_empty() {
        return Ok(());
    }
    let role: String = session.value("SELECT current_user::text", &[])?;
    let mut words = Vec::new();
    if !closed.is_empty() {
        words.push(format!(
            "the role {role} cannot read {}; as a superuser: GRANT pg_read_all_data TO {} (of single tables: GRANT SELECT; of large objects: GRANT SELECT ON LARGE OBJECT)",
            named(&closed),
            identifier(&role)
        ));
    }
    if !filtered.is_empty() {
        words.push(format!(
            "policies (row level security) hide rows from it of {}; as a superuser: ALTER ROLE {} BYPASSRLS",
            named(&filtered),
            identifier(&role)
        ));
    }
    Err(Failure(words.join("; ")))
}

fn named(all: &[String]) -> String {
    let shown: Vec<&str> = all.iter().take(MAX_NAMED).map(String::as_str).collect();
    match all.len().saturating_sub(MAX_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
