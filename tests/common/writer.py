"""A shop's application: moves money between accounts with the system's own SQLite, and keeps a record
of each transfer: number, moment before BEGIN, moment after COMMIT (nanoseconds since 1970).

Usage: writer.py DATABASE LOG TURN WRITER MODE   (LOG.begun appears after ten transfers; it stops when
LOG.stop exists; the last line of LOG is "busy N")

Writers take turns through a lock of their own, so in WAL mode, with a timeout of zero, whoever gets
"database is locked" got it from somebody else than the other writer.
"""
import fcntl
import os
import random
import sqlite3
import sys
import time

database, log, turn, writer, mode = sys.argv[1:]
random.seed(int(writer))
connection = sqlite3.connect(database, timeout=0 if mode == "wal" else 60, isolation_level=None)
turn = open(turn, "w")
number, busy, lines = 0, 0, []
while not os.path.exists(log + ".stop"):
    fcntl.flock(turn, fcntl.LOCK_EX)
    before = time.time_ns()
    try:
        connection.execute("BEGIN IMMEDIATE")
        giver, taker = random.sample(range(1, 501), 2)
        amount = random.randint(1, 100)
        connection.execute("UPDATE accounts SET balance = balance - ? WHERE id = ?", (amount, giver))
        connection.execute("UPDATE accounts SET balance = balance + ? WHERE id = ?", (amount, taker))
        connection.execute("UPDATE ballast SET touched = touched + 1 WHERE id = ?", (random.randint(1, 4000),))
        connection.execute("INSERT INTO transfers(writer, number) VALUES (?, ?)", (writer, number + 1))
        connection.execute("COMMIT")
        number += 1
        lines.append(f"{number} {before} {time.time_ns()}\n")
        if number == 10:
            open(log + ".begun", "w").close()
        if mode == "wal" and number % 40 == 0:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.OperationalError:
        busy += 1
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    fcntl.flock(turn, fcntl.LOCK_UN)
    time.sleep(random.random() * 0.002)
with open(log, "w") as record:
    record.writelines(lines)
    record.write(f"busy {busy}\n")
