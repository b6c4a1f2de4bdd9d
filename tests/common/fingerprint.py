"""A database's fingerprint and image hash, computed from docs/design/manifest.md alone, with the
system's own SQLite: the judge of what the manifest says. Prints them as JSON.

Usage: fingerprint.py DATABASE CHUNK_BYTES
"""
import hashlib
import json
import sqlite3
import struct
import sys

path, chunk_bytes = sys.argv[1], int(sys.argv[2])
connection = sqlite3.connect(path)
connection.text_factory = bytes


def one(sql):
    return connection.execute(sql).fetchone()[0]


assert connection.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
names = [row[0].decode() for row in connection.execute(
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")]
tables = {}
for name in names:
    tables[name] = one('SELECT count(*) FROM "%s"' % name.replace('"', '""'))
schema = hashlib.sha256()
for row in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid"):
    for value in row:
        schema.update(struct.pack("<q", -1 if value is None else len(value)) + (value or b""))
sequences = {}
if "sqlite_sequence" in tables:
    sequences = {name.decode(): seq for name, seq in connection.execute("SELECT name, seq FROM sqlite_sequence")}
fingerprint = {
    "tables": tables,
    "schema_sha256": schema.hexdigest(),
    "sequences": sequences,
    "page_size_bytes": one("PRAGMA page_size"),
    "page_count": one("PRAGMA page_count"),
    "user_version": one("PRAGMA user_version"),
    "application_id": one("PRAGMA application_id"),
    "encoding": one("PRAGMA encoding").decode(),
}
connection.close()
image = hashlib.sha256()
with open(path, "rb") as file:
    while chunk := file.read(chunk_bytes):
        image.update(struct.pack("<Q", len(chunk)) + hashlib.sha256(chunk).digest())
print(json.dumps({"fingerprint": fingerprint, "image_sha256": image.hexdigest()}))
