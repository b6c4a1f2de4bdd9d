"""Seeded work: a shop's database and a shop's files, and a day that changes each."""

import hashlib
import os
import random
import sqlite3

MIB = 1024 * 1024
PAGE = 4096

# Orders that fill one MiB, their lines, customers and indexes included; lines of an order; products on sale.
ORDERS_A_MIB, LINES, PRODUCTS = 2_700, 3, 2_000
# Of 10,000 orders that are there a day brings so many, sends so many of the newest out, changes so many anywhere (and as many lines).
NEW, PACKED, ANYWHERE = 25, 60, 40

PHRASES = (
    "teapot, celadon;cup, ash glaze;tea bowl, raku;oolong, spring harvest;sencha, early harvest;wrapped as a gift;"
    "please ring twice;leave with the neighbour;fragile, do not stack;second choice;without strainer;handle on the left;"
    "copper lid;set of four;set of six;tray, cherry wood;green and white;birthday card inside;paid in advance;"
    "collected in the shop;delivered to the gate;North Street;Kiln Lane;Old Market Square;first floor;back entrance;"
    "black, matt;blue, crackled;kettle, cast iron;incense, cedar;thank you again;no invoice in the parcel"
).split(";")


def phrases(source, count):
    """What people write."""
    return "; ".join(source.choices(PHRASES, k=count))


class Database:
    """W1: a shop's database in WAL mode. Between its days it is at rest and its file alone is exact."""

    name = "W1"

    def __init__(self, folder, size_mib, seed):
        self.path = os.path.join(folder, "shop.db")
        self.random = random.Random(seed)
        self.orders = 0
        self.touched = 0
        os.makedirs(folder)
        connection = self._connect()
        connection.execute("PRAGMA journal_mode = wal")
        connection.executescript(
            """CREATE TABLE products(id INTEGER PRIMARY KEY, title TEXT, description TEXT, price INTEGER, stock INTEGER);
               CREATE TABLE customers(id INTEGER PRIMARY KEY, name TEXT, email TEXT, address TEXT, orders INTEGER);
               CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, placed_at INTEGER, status TEXT, total INTEGER,
                 payment TEXT, address TEXT, note TEXT);
               CREATE TABLE lines(id INTEGER PRIMARY KEY, order_id INTEGER, product INTEGER, quantity INTEGER,
                 price INTEGER, label TEXT);"""
        )
        draw = self.random
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO products VALUES (NULL, ?, ?, ?, 100000)",
            ((phrases(draw, 2), phrases(draw, 24), self._price()) for _ in range(PRODUCTS)),
        )
        count = size_mib * ORDERS_A_MIB
        connection.executemany(
            "INSERT INTO customers VALUES (NULL, ?, ?, ?, 0)",
            ((phrases(draw, 1), f"{draw.getrandbits(64):x}@example.net", phrases(draw, 3)) for _ in range(count // 10)),
        )
        self._sell(connection, count)
        connection.execute("COMMIT")
        connection.executescript(
            """CREATE INDEX customers_by_email ON customers(email);
               CREATE INDEX orders_by_customer ON orders(customer);
               CREATE INDEX orders_by_time ON orders(placed_at);
               CREATE INDEX lines_by_order ON lines(order_id);
               CREATE INDEX lines_by_product ON lines(product);"""
        )
        self._close(connection)

    def change(self):
        """A day of trading."""
        connection = self._connect()
        before = connection.total_changes
        orders = self.orders
        connection.execute("BEGIN")
        self._sell(connection, orders * NEW // 10_000)
        newest = range(orders - orders * PACKED // 10_000, orders)
        anywhere = [self.random.randrange(orders) + 1 for _ in range(orders * ANYWHERE // 10_000)]
        # As long as what was there: the row stays in its page.
        for status, changed in (("out", newest), ("ret", anywhere)):
            connection.executemany(
                "UPDATE orders SET status = ?, payment = ? WHERE id = ?",
                ((status, f"{self.random.getrandbits(64):016x}", order) for order in changed),
            )
        corrected = [self.random.randrange(orders * LINES) + 1 for _ in anywhere]
        connection.executemany("UPDATE lines SET price = price + 1 WHERE id = ?", ((line,) for line in corrected))
        connection.execute("COMMIT")
        self.touched = connection.total_changes - before
        self._close(connection)

    def _connect(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA synchronous = off")
        return connection

    def _close(self, connection):
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        connection.close()
        assert busy == 0

    def _price(self):
        return self.random.randrange(20_000) + 100

    def _sell(self, connection, count):
        draw = self.random
        first = self.orders + 1
        customers = max(max(self.orders, count) // 10, 1)
        connection.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, 'new', ?, ?, ?, ?)",
            (
                (order, draw.randrange(customers) + 1, 1_700_000_000 + order * 17, self._price(),
                 f"{draw.getrandbits(64):016x}", phrases(draw, 3), phrases(draw, 4))
                for order in range(first, first + count)
            ),
        )
        sold = [draw.randrange(PRODUCTS) + 1 for _ in range(count * LINES)]
        connection.executemany(
            "INSERT INTO lines VALUES (NULL, ?, ?, 1, ?, ?)",
            ((first + at // LINES, product, self._price(), phrases(draw, 1)) for at, product in enumerate(sold)),
        )
        # What was sold before the first day is not in the stock any more.
        if self.orders:
            take = "UPDATE products SET stock = stock - 1 WHERE id = ?"
            connection.executemany(take, ((product,) for product in sold))
        self.orders += count

    def grow(self, size):
        """Fills the file to so many bytes with attachments, each a part of a long text: not a shop's, but quickly there."""
        text = phrases(self.random, 32 * MIB // 20).encode()
        connection = self._connect()
        # No log as large as all of it.
        connection.execute("PRAGMA journal_mode = delete")
        connection.execute("PRAGMA journal_mode = off")
        connection.execute("CREATE TABLE attachments(id INTEGER PRIMARY KEY, content BLOB)")
        connection.execute("BEGIN")
        left = size - os.path.getsize(self.path)
        while left > 0:
            start, length = self.random.randrange(len(text) - 200_000), self.random.randrange(20_000, 200_000)
            connection.execute("INSERT INTO attachments VALUES (NULL, ?)", (text[start : start + length],))
            left -= length
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = wal")
        self._close(connection)

    def pages(self):
        """A short mark of each page, in order."""
        with open(self.path, "rb") as file:
            return [hashlib.blake2b(page, digest_size=8).digest() for page in iter(lambda: file.read(PAGE), b"")]


class Files:
    """W2: pictures that do not compress, many small texts, two large logs."""

    name = "W2"

    def __init__(self, folder, size_mib, seed):
        self.random = random.Random(seed)
        pictures, texts = 20_000 * size_mib // 1024, 5_000 * size_mib // 1024
        self.pictures = [os.path.join(folder, f"pictures/{number // 500}/{number}.jpg") for number in range(pictures)]
        self.texts = [os.path.join(folder, f"texts/{number // 500}/{number}.html") for number in range(texts)]
        self.logs = [os.path.join(folder, f"log/{name}.log") for name in ("access", "error")]
        self.log_bytes = 50 * MIB * size_mib // 1024
        for path in self.pictures:
            self._write(path, self._picture())
        for path in self.texts:
            self._write(path, self._text())
        for path in self.logs:
            self._write(path, b"".join(self._line() for _ in range(self.log_bytes // 100)))

    def change(self):
        """One file in a hundred is new, and the logs have grown. Says how many bytes are in the files that changed."""
        pictures = self.random.sample(self.pictures, len(self.pictures) // 100)
        texts = self.random.sample(self.texts, len(self.texts) // 100)
        for path in pictures:
            self._write(path, self._picture())
        for path in texts:
            self._write(path, self._text())
        for path in self.logs:
            with open(path, "ab") as log:
                log.writelines(self._line() for _ in range(self.log_bytes // 10_000))
        return sum(os.path.getsize(path) for path in (*pictures, *texts, *self.logs))

    def _write(self, path, content):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)

    def _picture(self):
        return self.random.randbytes(self.random.randrange(10_000, 150_000))

    def _text(self):
        return phrases(self.random, self.random.randrange(50, 400)).encode()

    def _line(self):
        draw = self.random
        return f"10.0.{draw.randrange(256)}.{draw.randrange(256)} GET /{phrases(draw, 2).replace(' ', '/')} 200 {draw.randrange(99999)}\n".encode()


def content_of(folder):
    """One hash over all names and contents below a folder."""
    total = hashlib.sha256()
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(path, name)
            total.update(os.path.relpath(file, folder).encode() + b"\0")
            with open(file, "rb") as content:
                for block in iter(lambda: content.read(MIB), b""):
                    total.update(block)
    return total.hexdigest()


def size_of(folder):
    """Bytes of all files below a folder."""
    return sum(
        os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(folder) for name in names
    )


def empty(folder):
    """Gives back the room of all files below a folder, but not their names: ext4 makes files slowly after many were removed."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = os.path.join(path, name)
            if not os.path.islink(file):
                os.truncate(file, 0)
