//! What a restore must know of a database beside its content.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Answer;
use super::session::{Session, full_name};

/// What a database needs around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The server's version, as it says it itself.
    pub server_version: String,
    /// Its major version.
    pub server_major: u32,
    /// The major version of the tools that dumped it: older ones cannot load it.
    pub tools_major: u32,
    /// Whether the server is a copy that follows another one.
    pub is_replica: bool,
    /// The role that read it.
    pub role: String,
    /// Whether that is a superuser.
    pub is_superuser: bool,
    /// The encoding of its texts.
    pub encoding: String,
    /// `LC_COLLATE`
    pub collate: String,
    /// `LC_CTYPE`
    pub ctype: String,
    /// Who sorts its texts, if that is not the system's library.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// The version of that collation, where the server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collation_version: Option<String>,
    /// Its extensions.
    pub extensions: Vec<Extension>,
    /// Roles that own something in it, or have rights in it.
    pub roles: BTreeSet<String>,
    /// Settings of its own (`ALTER DATABASE … SET`), which are in no dump of it.
    pub settings: Vec<String>,
    /// Tables of extensions of which it holds what was added: not counted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub extension_tables: BTreeSet<String>,
}

/// A locale that the system's library knows nothing of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locale {
    /// `icu` or `builtin`.
    pub provider: String,
    /// Its name there.
    pub name: String,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The server's major version.
pub fn major_of(session: &mut Session) -> Answer<u32> {
    let number: i32 = session.value("SELECT current_setting('server_version_num')::int4", &[])?;
    Ok(u32::try_from(number / 10_000).unwrap_or(0))
}

impl Facts {
    pub(super) fn of(session: &mut Session, tools_major: u32) -> Answer<Self> {
        let server_major = major_of(session)?;
        let row = session.rows(
            "SELECT current_setting('server_version'), pg_is_in_recovery(), current_user::text,
                    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
                    pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text
             FROM pg_database d WHERE d.datname = current_database()",
            &[],
        )?;
        let Some(row) = row.first() else {
            return Err(super::Failure::new("the database was dropped meanwhile"));
        };
        let collation_version = if server_major >= 15 {
            session.value(
                "SELECT datcollversion FROM pg_database WHERE datname = current_database()",
                &[],
            )?
        } else {
            None
        };
        let extensions = session.rows(
            "SELECT extname::text, extversion FROM pg_extension ORDER BY extname",
            &[],
        )?;
        let roles = session.rows(
            "SELECT DISTINCT pg_get_userbyid(refobjid)::text FROM pg_shdepend
             WHERE refclassid = 'pg_authid'::regclass AND deptype IN ('o', 'a', 'r')
               AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
        )?;
        let settings = session.rows(
            "SELECT unnest(setconfig) FROM pg_db_role_setting
             WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
        )?;
        let tables = session.rows(
            "SELECT n.nspname::text, c.relname::text
             FROM pg_extension e CROSS JOIN unnest(e.extconfig) AS t(oid)
             JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace",
            &[],
        )?;
        Ok(Self {
            server_version: row.try_get(0)?,
            server_major,
            tools_major,
            locale: locale(session, server_major)?,
            is_replica: row.try_get(1)?,
            role: row.try_get(2)?,
            is_superuser: row.try_get(3)?,
            encoding: row.try_get(4)?,
            collate: row.try_get(5)?,
            ctype: row.try_get(6)?,
            collation_version,
            extensions: extensions
                .iter()
                .map(|row| {
                    Ok(Extension {
                        name: row.try_get(0)?,
                        version: row.try_get(1)?,
                    })
                })
                .collect::<Answer<_>>()?,
            roles: texts(&roles)?,
            settings: texts(&settings)?,
            extension_tables: tables
                .iter()
                .map(|row| Ok(full_name(row.try_get(0)?, row.try_get(1)?)))
                .collect::<Answer<_>>()?,
        })
    }
}

/// The locale of the database, if it is not one of the system's library.
fn locale(session: &mut Session, server_major: u32) -> Answer<Option<Locale>> {
    let column = match server_major {
        ..15 => return Ok(None),
        15 | 16 => "daticulocale",
        _ => "datlocale",
    };
    let rows = session.rows(
        &format!(
            "SELECT CASE datlocprovider WHEN 'i' THEN 'icu' ELSE 'builtin' END, {column}
             FROM pg_database WHERE datname = current_database() AND datlocprovider <> 'c'"
        ),
        &[],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Locale {
        provider: row.try_get(0)?,
        name: row.try_get(1)?,
    }))
}

/// The first column of rows.
pub fn texts<T: FromIterator<String>>(rows: &[postgres::Row]) -> Answer<T> {
    rows.iter()
        .map(|row| Ok(row.try_get::<_, String>(0)?))
        .collect()
}
