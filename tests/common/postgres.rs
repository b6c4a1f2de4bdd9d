//! A private PostgreSQL server, one for all tests of this process: on a socket in a folder of its own, as an unprivileged user,
//! and gone with the folder however the process ends.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use postgres::{Client, Config, NoTls};

use super::program::PATIENCE;
use super::tools::skipped;

/// The user that it runs as where we are root, and the superuser in it.
pub const SUPERUSER: &str = "postgres";
/// Runs the server as long as our end of the pipe is open: the kernel closes it, whatever ends us.
const GUARD: &str = "\"$@\" </dev/null & server=$!; cat >/dev/null; kill -QUIT $server; wait $server; cd /; rm -rf \"$FOLDER\"";

/// The server.
pub struct Postgres {
    /// The folder of its socket.
    pub socket: PathBuf,
    /// The folder of its programs.
    pub programs: PathBuf,
    // Its input is what keeps the server alive.
    _guard: Child,
}

/// The one of this process; none, loudly, where no server is installed.
pub fn server() -> Option<&'static Postgres> {
    static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
    let server = SERVER.get_or_init(|| installed().map(|programs| Postgres::start(&programs)));
    if server.is_none() {
        skipped(
            "PostgreSQL",
            "no server is installed: `make tools` installs it",
        );
    }
    server.as_ref()
}

/// The folder of the newest server's programs.
fn installed() -> Option<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for item in fs::read_dir("/usr/lib/postgresql").ok()?.flatten() {
        let number = item.file_name().to_str().and_then(|name| name.parse().ok());
        let folder = item.path().join("bin");
        if let Some(number) = number.filter(|_| folder.join("initdb").is_file()) {
            found.push((number, folder));
        }
    }
    found.sort();
    found.pop().map(|(_, folder)| folder)
}

fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let user = uzers::get_user_by_name(SUPERUSER).expect("the package makes the user");
    Some((user.uid(), user.primary_group_id()))
}

impl Postgres {
    fn start(programs: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("tillsafe-pg-")
            .tempdir()
            .unwrap()
            .keep();
        let user = user();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let as_user = |program: &Path| {
            let mut command = Command::new(program);
            command
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("LC_ALL", "C")
                .env("FOLDER", &folder);
            command.current_dir(&folder).stdout(Stdio::null());
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let data = folder.join("data");
        let made = as_user(&programs.join("initdb"))
            .arg("-D")
            .arg(&data)
            .args([
                "-U",
                SUPERUSER,
                "--auth=trust",
                "-E",
                "UTF8",
                "--no-locale",
                "-N",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let rules = data.join("pg_hba.conf");
        let trusted = fs::read_to_string(&rules).unwrap();
        fs::write(
            &rules,
            format!("local all with_password scram-sha-256\n{trusted}"),
        )
        .unwrap();
        let guard = as_user(Path::new("/bin/sh"))
            .args(["-c", GUARD, "guard"])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&folder)
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "max_connections=60",
            ])
            .stdin(Stdio::piped())
            .stderr(fs::File::create(folder.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let server = Self {
            socket: folder,
            programs: programs.to_owned(),
            _guard: guard,
        };
        let begun = Instant::now();
        while let Err(cause) = server.config(SUPERUSER, "postgres").connect(NoTls) {
            let log = fs::read_to_string(server.socket.join("server.log")).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "{cause}: {log}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        server
    }

    fn config(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(&self.socket).user(user).dbname(database);
        config
    }

    /// A session of a role in a database.
    pub fn connect(&self, user: &str, database: &str) -> Client {
        self.config(user, database).connect(NoTls).unwrap()
    }

    /// A new database of a name that nobody else has.
    pub fn database(&'static self, word: &str) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{word}{number}");
        let mut client = self.connect(SUPERUSER, "postgres");
        client
            .batch_execute(&format!("CREATE DATABASE {}", quoted(&name)))
            .unwrap();
        Database { server: self, name }
    }
}

/// A name as SQL reads it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A database that is dropped with this.
pub struct Database {
    pub server: &'static Postgres,
    pub name: String,
}

impl Database {
    pub fn connect(&self) -> Client {
        self.server.connect(SUPERUSER, &self.name)
    }

    pub fn run(&self, sql: &str) {
        self.connect()
            .batch_execute(sql)
            .unwrap_or_else(|cause| panic!("{cause:?}: {sql}"));
    }

    /// A shop in it: orders, customers, and one of each kind of thing.
    pub fn shop(self, orders: u32) -> Self {
        self.run(&format!(
            "CREATE TABLE customers(id bigserial PRIMARY KEY, name text NOT NULL);
             CREATE TABLE orders(id bigserial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers(id),
                item text, paid numeric(12, 2) DEFAULT 0, placed timestamptz DEFAULT '2026-11-30 12:00+00');
             CREATE INDEX orders_by_customer ON orders(customer);
             CREATE VIEW unpaid AS SELECT * FROM orders WHERE paid = 0;
             CREATE MATERIALIZED VIEW sums AS SELECT customer, count(*) FROM orders GROUP BY customer;
             CREATE TYPE glaze AS ENUM ('celadon', 'tenmoku');
             CREATE TABLE cups(glaze glaze, \"size \"\"ml\"\"\" int) PARTITION BY LIST (glaze);
             CREATE TABLE cups_celadon PARTITION OF cups FOR VALUES IN ('celadon');
             CREATE TABLE cups_rest PARTITION OF cups DEFAULT;
             CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.item := upper(NEW.item); RETURN NEW; END';
             CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
             INSERT INTO customers(name) VALUES ('Mara'), (E'Ilse\\n\\\\.\\t'), ('; DROP TABLE orders');
             INSERT INTO orders(customer, item) SELECT 1 + i % 3, 'item ' || i || repeat(md5(i::text), 3) FROM generate_series(1, {orders}) i;
             INSERT INTO cups VALUES ('celadon', 200), ('tenmoku', 150), (NULL, NULL);
             SELECT lo_from_bytea(0, decode(repeat('c0ffee', 1000), 'hex'));"
        ));
        self
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A panic may have left sessions in it.
        if let Ok(mut client) = self.server.config(SUPERUSER, "postgres").connect(NoTls) {
            let _ = client.batch_execute(&format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                quoted(&self.name)
            ));
        }
    }
}
