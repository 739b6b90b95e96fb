# Row changes: every statement that makes them, and everything that makes them on the side.
# program.py says how this file is read.

### insert
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
---
INSERT INTO t VALUES (1, 'x', 2.5)
INSERT INTO t(a) VALUES ('y')
INSERT INTO t DEFAULT VALUES

### insert of many rows at once
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
---
INSERT INTO t(a, b) VALUES (1, 2), (3, 4), (5, 6)

### insert from a select of its own table
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
INSERT INTO t(a, b) SELECT b, a FROM t

### update
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE t SET b = b + 1
UPDATE t SET a = 'z' WHERE id = 2
UPDATE t SET a = a
UPDATE t SET a = 1 WHERE id = 999

### update from
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE t SET b = s.n FROM (SELECT 1 AS k, 100 AS n UNION ALL SELECT 3, 300) AS s WHERE s.k = t.id

### update with order of rowids turned
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE t SET id = -id
UPDATE t SET id = id + 10

### update that moves a rowid onto another with OR REPLACE
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE OR REPLACE t SET id = 2 WHERE id = 1

### update of a hidden rowid
CREATE TABLE t(a)
INSERT INTO t VALUES (1), (2), (3)
---
UPDATE t SET rowid = rowid + 100 WHERE a > 1
UPDATE t SET oid = 5, a = 'five' WHERE a = 1
SELECT rowid, a FROM t

### update by row values
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE t SET (a, b) = (SELECT max(a), min(b) FROM t) WHERE id = 1

### delete
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
DELETE FROM t WHERE id = 2
DELETE FROM t WHERE id = 999
DELETE FROM t
DELETE FROM t

### delete of everything, then the same rowids again
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
DELETE FROM t
INSERT INTO t VALUES (1, 'new', 1)
INSERT INTO t(a) VALUES (2)

### replace
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
---
REPLACE INTO t VALUES (1, 'A', 10)
INSERT OR REPLACE INTO t(k, n) VALUES ('b', 20)
REPLACE INTO t VALUES (1, 'c', 30)
REPLACE INTO t(k, n) VALUES ('q', 1), ('q', 2), ('q', 3)

### replace by a column's conflict clause
CREATE TABLE t(a UNIQUE ON CONFLICT REPLACE, b)
INSERT INTO t VALUES (1, 1)
---
INSERT INTO t VALUES (1, 2)
INSERT INTO t VALUES (2, 2)
UPDATE t SET a = 2 WHERE b = 2

### replace with delete triggers (recursive_triggers)
CREATE TABLE t(id INTEGER PRIMARY KEY, a)
CREATE TABLE log(what, old, new)
CREATE TRIGGER bi BEFORE INSERT ON t BEGIN INSERT INTO log VALUES ('bi', NULL, new.a); END
CREATE TRIGGER ai AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('ai', NULL, new.id); END
CREATE TRIGGER bu BEFORE UPDATE OF a ON t WHEN old.a IS NOT new.a BEGIN INSERT INTO log VALUES ('bu', old.a, new.a); END
CREATE TRIGGER au AFTER UPDATE ON t BEGIN UPDATE log SET new = new.a WHERE what = 'ai'; END
CREATE TRIGGER ad AFTER DELETE ON t BEGIN DELETE FROM log WHERE new = old.id; INSERT INTO log VALUES ('ad', old.a, NULL); END
INSERT INTO t VALUES (1, 'a'), (2, 'b')
---
PRAGMA recursive_triggers = ON
REPLACE INTO t VALUES (1, 'again')
PRAGMA recursive_triggers = OFF
REPLACE INTO t VALUES (1, 'and again')

### replace in a NOT NULL column with a default
CREATE TABLE t(a NOT NULL ON CONFLICT REPLACE DEFAULT 'd', b)
---
INSERT INTO t VALUES (NULL, 1)
UPDATE t SET a = NULL
INSERT OR REPLACE INTO t VALUES (NULL, 2)

### upsert
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
---
INSERT INTO t(k, n) VALUES ('a', 5) ON CONFLICT(k) DO UPDATE SET n = n + excluded.n
INSERT INTO t(k, n) VALUES ('a', 5), ('z', 6), ('z', 7) ON CONFLICT(k) DO UPDATE SET n = excluded.n WHERE n < 7
INSERT INTO t(k, n) VALUES ('b', 1) ON CONFLICT DO NOTHING
INSERT INTO t VALUES (1, 'b', 9) ON CONFLICT(id) DO UPDATE SET n = -1 ON CONFLICT(k) DO UPDATE SET n = -2

### upsert that changes the rowid
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
---
INSERT INTO t VALUES (1, 'x', 5) ON CONFLICT(id) DO UPDATE SET id = 50, k = excluded.k

### upsert that breaks another constraint
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
---
INSERT INTO t VALUES (1, 'x', 5) ON CONFLICT(id) DO UPDATE SET k = 'b'

### insert or ignore
CREATE TABLE t(id INTEGER PRIMARY KEY, k TEXT UNIQUE, n INT)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)
---
INSERT OR IGNORE INTO t(k, n) VALUES ('a', 9), ('d', 4), ('b', 9)
UPDATE OR IGNORE t SET k = 'a'

### returning
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
INSERT INTO t(a) VALUES ('r'), ('s') RETURNING id, a
UPDATE t SET b = 0 WHERE id < 3 RETURNING *
DELETE FROM t WHERE id > 2 RETURNING id
INSERT INTO t(id) VALUES (1) ON CONFLICT DO UPDATE SET a = 'up' RETURNING a

### common table expressions
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO t(id) SELECT i FROM n
WITH w AS (SELECT id FROM t WHERE id % 2) DELETE FROM t WHERE id IN w
WITH w AS (SELECT 1) UPDATE t SET a = (SELECT * FROM w)

### a statement's changes() steers the next
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (7, NULL, 7)
---
UPDATE t SET a = 1 WHERE id = 999
INSERT INTO t(a) SELECT 'none' WHERE changes() = 0
INSERT INTO t(a) SELECT 'not' WHERE changes() = 0
UPDATE t SET b = changes()
INSERT INTO t(a) VALUES (last_insert_rowid()), (total_changes())

### without rowid
CREATE TABLE t(a, b, c, PRIMARY KEY(b, a)) WITHOUT ROWID
---
INSERT INTO t VALUES (1, 'x', NULL), (2, 'x', 0), (1, 'y', 5)
UPDATE t SET c = 7 WHERE b = 'x'
UPDATE t SET a = a + 10
UPDATE t SET b = 'z', c = 1 WHERE a = 11 AND b = 'y'
REPLACE INTO t VALUES (11, 'x', 'r')
INSERT INTO t VALUES (11, 'x', 1)
DELETE FROM t WHERE a = 12
INSERT INTO t VALUES (NULL, 1, 1)
DELETE FROM t

### without rowid, swapped keys
CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID
INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')
---
UPDATE OR REPLACE t SET k = k + 1
UPDATE t SET k = -k
SELECT * FROM t

### without rowid, keys in a collation
CREATE TABLE t(k TEXT PRIMARY KEY COLLATE NOCASE, v) WITHOUT ROWID
INSERT INTO t VALUES ('a', 1), ('B', 2)
---
UPDATE t SET k = upper(k)
REPLACE INTO t VALUES ('b', 3)
UPDATE t SET k = 'C' WHERE k = 'b'
INSERT OR IGNORE INTO t VALUES ('A', 9)
DELETE FROM t WHERE k = 'a'

### null primary keys
CREATE TABLE t(k TEXT PRIMARY KEY, v)
CREATE TABLE u(a, b, v, PRIMARY KEY(a, b))
---
INSERT INTO t VALUES (NULL, 1), (NULL, 2), ('x', 3)
UPDATE t SET v = v + 1 WHERE k IS NULL
DELETE FROM t WHERE v = 2
INSERT INTO u VALUES (NULL, 1, 1), (NULL, 1, 1), (1, NULL, 2)
UPDATE u SET v = 5 WHERE a IS NULL
UPDATE u SET a = 1

### equal rows twice
CREATE TABLE t(a, b)
---
INSERT INTO t VALUES (1, 1), (1, 1), (1, 1)
DELETE FROM t WHERE rowid = 2
UPDATE t SET b = 2 WHERE rowid = 3
INSERT INTO t VALUES (1, 1)

### autoincrement
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)
---
INSERT INTO t(a) VALUES ('a'), ('b')
DELETE FROM t
INSERT INTO t(a) VALUES ('c')
INSERT INTO t VALUES (100, 'd')
INSERT INTO t VALUES (50, 'e')
UPDATE t SET id = 500 WHERE id = 50
INSERT INTO t(a) VALUES ('f')
SELECT * FROM sqlite_sequence

### autoincrement whose sequence moves without a row
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE)
INSERT INTO t(k) VALUES ('a')
---
INSERT OR IGNORE INTO t(k) VALUES ('a')
INSERT INTO t(k) VALUES ('a') ON CONFLICT DO NOTHING
INSERT INTO t(k) VALUES ('a') ON CONFLICT(k) DO UPDATE SET k = 'a2'
INSERT OR FAIL INTO t(k) VALUES ('b'), ('c'), ('b')
INSERT INTO t(k) VALUES ('d'), ('b')
SELECT * FROM sqlite_sequence

### sqlite_sequence written by hand
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)
INSERT INTO t(a) VALUES (1), (2)
---
UPDATE sqlite_sequence SET seq = 1000 WHERE name = 't'
INSERT INTO t(a) VALUES (3)
DELETE FROM sqlite_sequence
INSERT INTO t(a) VALUES (4)
INSERT INTO sqlite_sequence(name, seq) VALUES ('ghost', 'text')
UPDATE sqlite_sequence SET seq = NULL WHERE name = 't'
INSERT INTO t(a) VALUES (5)
DELETE FROM sqlite_sequence WHERE name = 't'

### autoincrement at its end
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)
---
INSERT INTO t VALUES (9223372036854775806, 'x')
INSERT INTO t(a) VALUES ('last')
INSERT INTO t(a) VALUES ('none')

### two autoincrement tables and a dropped one
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)
CREATE TABLE u(id INTEGER PRIMARY KEY AUTOINCREMENT)
---
INSERT INTO t DEFAULT VALUES
INSERT INTO u VALUES (9)
DROP TABLE t
INSERT INTO u DEFAULT VALUES
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)
INSERT INTO t DEFAULT VALUES
ALTER TABLE u RENAME TO w
INSERT INTO w DEFAULT VALUES

### check constraints and not null
CREATE TABLE t(a CHECK(a > 0), b NOT NULL)
---
INSERT INTO t VALUES (1, 1)
INSERT INTO t VALUES (0, 1)
INSERT INTO t VALUES (1, NULL)
UPDATE t SET a = -1
INSERT OR IGNORE INTO t VALUES (2, NULL), (3, 3)

### stored generated columns
CREATE TABLE t(a, g AS (a * 2) STORED, b, h AS (g || b) STORED UNIQUE)
---
INSERT INTO t VALUES (1, 'x'), (2, 'y')
UPDATE t SET a = 10 WHERE b = 'x'
INSERT INTO t VALUES (10, 'x')
REPLACE INTO t VALUES (10, 'x')
UPDATE t SET b = 'y'
DELETE FROM t WHERE g = 4
SELECT * FROM t

### virtual generated columns
CREATE TABLE t(a, g AS (a + 1) VIRTUAL, b, h AS (g * 2))
---
INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')
UPDATE t SET a = 10 WHERE b = 'x'
UPDATE t SET rowid = 77 WHERE b = 'y'
DELETE FROM t WHERE b = 'z'
INSERT INTO t VALUES (4, 'w')
UPDATE t SET a = a + 1
DELETE FROM t WHERE a = 11
INSERT INTO t(rowid, a) VALUES (1, 'again')
SELECT * FROM t

### virtual generated columns, changed and put back
CREATE TABLE t(a, g AS (a + 1))
INSERT INTO t VALUES (1), (2)
---
UPDATE t SET a = 9
UPDATE t SET a = rowid
DELETE FROM t
INSERT INTO t(rowid, a) VALUES (2, 2), (1, 1)
INSERT INTO t VALUES (3)
DELETE FROM t WHERE a = 3

### virtual generated columns without rowid
CREATE TABLE t(k PRIMARY KEY, a, g AS (a || k)) WITHOUT ROWID
INSERT INTO t VALUES (1, 'x'), (2, 'y'), (3, 'z')
---
UPDATE t SET k = k + 1 WHERE k = 3
UPDATE t SET a = 'w' WHERE k = 1
DELETE FROM t WHERE k = 2
INSERT INTO t VALUES (7, NULL)
UPDATE t SET k = -k
SELECT * FROM t

### virtual generated columns in a unique index
CREATE TABLE t(id INTEGER PRIMARY KEY, a, g AS (a % 10))
CREATE UNIQUE INDEX i ON t(g)
INSERT INTO t VALUES (1, 11), (2, 22)
---
INSERT INTO t VALUES (3, 31)
REPLACE INTO t VALUES (3, 31)
UPDATE OR REPLACE t SET a = 42 WHERE id = 3
INSERT INTO t VALUES (9, 42) ON CONFLICT(g) DO UPDATE SET a = 53

### triggers
CREATE TABLE t(id INTEGER PRIMARY KEY, a)
CREATE TABLE log(what, old, new)
CREATE TRIGGER bi BEFORE INSERT ON t BEGIN INSERT INTO log VALUES ('bi', NULL, new.a); END
CREATE TRIGGER ai AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('ai', NULL, new.id); END
CREATE TRIGGER bu BEFORE UPDATE OF a ON t WHEN old.a IS NOT new.a BEGIN INSERT INTO log VALUES ('bu', old.a, new.a); END
CREATE TRIGGER au AFTER UPDATE ON t BEGIN UPDATE log SET new = new.a WHERE what = 'ai'; END
CREATE TRIGGER ad AFTER DELETE ON t BEGIN DELETE FROM log WHERE new = old.id; INSERT INTO log VALUES ('ad', old.a, NULL); END
INSERT INTO t VALUES (1, 'a'), (2, 'b')
---
INSERT INTO t(a) VALUES ('c'), ('d')
UPDATE t SET a = upper(a)
DELETE FROM t WHERE id < 3
REPLACE INTO t VALUES (3, 'r')
SELECT * FROM log

### instead of triggers
CREATE TABLE t(id INTEGER PRIMARY KEY, a)
CREATE VIEW v AS SELECT id, a FROM t
CREATE TRIGGER vi INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (new.id, new.a); INSERT INTO t(a) VALUES ('twin'); END
CREATE TRIGGER vu INSTEAD OF UPDATE ON v BEGIN UPDATE t SET a = new.a WHERE id = old.id; END
CREATE TRIGGER vd INSTEAD OF DELETE ON v BEGIN DELETE FROM t WHERE id = old.id; END
---
INSERT INTO v VALUES (10, 'x'), (20, 'y')
UPDATE v SET a = 'z'
DELETE FROM v WHERE id = 10
INSERT INTO v VALUES (11, 'w') RETURNING id

### recursive triggers
PRAGMA recursive_triggers = ON
CREATE TABLE t(n)
CREATE TRIGGER g AFTER INSERT ON t WHEN new.n < 5 BEGIN INSERT INTO t VALUES (new.n + 1); END
---
INSERT INTO t VALUES (0)
INSERT INTO t VALUES (3), (4)
UPDATE t SET n = n * 2
DELETE FROM t WHERE n > 4

### a trigger that writes temp, a temp trigger that writes main
CREATE TABLE t(a)
CREATE TABLE log(a)
CREATE TEMP TABLE scratch(a)
CREATE TEMP TRIGGER tt AFTER INSERT ON main.t BEGIN INSERT INTO scratch VALUES (new.a); INSERT INTO log VALUES (new.a); END
---
INSERT INTO t VALUES (1), (2)
SELECT * FROM scratch
UPDATE t SET a = 9
SELECT * FROM log

### a temp trigger on a temp table that writes main
CREATE TABLE t(a)
CREATE TEMP TABLE s(a)
CREATE TEMP TRIGGER tt AFTER INSERT ON s BEGIN INSERT INTO t VALUES (new.a); END
---
INSERT INTO s VALUES (1)
INSERT INTO s VALUES (2), (3)
SELECT * FROM t

### foreign key actions
PRAGMA foreign_keys = ON
CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)
CREATE TABLE cascading(x, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)
CREATE TABLE nulling(x, p REFERENCES parent(code) ON DELETE SET NULL ON UPDATE SET NULL)
CREATE TABLE defaulting(x, p INT DEFAULT 99 REFERENCES parent ON DELETE SET DEFAULT)
CREATE TABLE keyed(p INTEGER PRIMARY KEY REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, x) WITHOUT ROWID
INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (99, 'z')
INSERT INTO cascading VALUES ('x', 1), ('y', 1), ('z', 2)
INSERT INTO nulling VALUES ('x', 'a'), ('y', 'b')
INSERT INTO defaulting VALUES ('x', 1), ('y', 3)
INSERT INTO keyed VALUES (1, 'one'), (3, 'three')
---
DELETE FROM parent WHERE id = 1
UPDATE parent SET id = 30, code = 'cc' WHERE id = 3
UPDATE parent SET id = 20 WHERE id = 2
UPDATE parent SET code = 'bb' WHERE id = 2
DELETE FROM parent WHERE id = 30
DELETE FROM parent

### foreign keys that refuse
PRAGMA foreign_keys = ON
CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)
CREATE TABLE cascading(x, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)
CREATE TABLE nulling(x, p REFERENCES parent(code) ON DELETE SET NULL ON UPDATE SET NULL)
CREATE TABLE defaulting(x, p INT DEFAULT 99 REFERENCES parent ON DELETE SET DEFAULT)
CREATE TABLE keyed(p INTEGER PRIMARY KEY REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, x) WITHOUT ROWID
INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (99, 'z')
INSERT INTO cascading VALUES ('x', 1), ('y', 1), ('z', 2)
INSERT INTO nulling VALUES ('x', 'a'), ('y', 'b')
INSERT INTO defaulting VALUES ('x', 1), ('y', 3)
INSERT INTO keyed VALUES (1, 'one'), (3, 'three')
---
INSERT INTO cascading VALUES ('q', 1234)
DELETE FROM parent WHERE id = 99
INSERT INTO nulling VALUES ('q', 'nope'), ('r', 'a')
UPDATE cascading SET p = 1234

### deferred foreign keys
PRAGMA foreign_keys = ON
CREATE TABLE p(a PRIMARY KEY)
CREATE TABLE c(x REFERENCES p DEFERRABLE INITIALLY DEFERRED)
CREATE TABLE i(x REFERENCES p)
---
INSERT INTO c VALUES (1)
INSERT INTO p VALUES (1)
PRAGMA defer_foreign_keys = ON
INSERT INTO i VALUES (5)
INSERT INTO p VALUES (5)
DELETE FROM p WHERE a = 1

### replace of a parent
PRAGMA foreign_keys = ON
CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)
CREATE TABLE cascading(x, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)
CREATE TABLE nulling(x, p REFERENCES parent(code) ON DELETE SET NULL ON UPDATE SET NULL)
CREATE TABLE defaulting(x, p INT DEFAULT 99 REFERENCES parent ON DELETE SET DEFAULT)
CREATE TABLE keyed(p INTEGER PRIMARY KEY REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, x) WITHOUT ROWID
INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (99, 'z')
INSERT INTO cascading VALUES ('x', 1), ('y', 1), ('z', 2)
INSERT INTO nulling VALUES ('x', 'a'), ('y', 'b')
INSERT INTO defaulting VALUES ('x', 1), ('y', 3)
INSERT INTO keyed VALUES (1, 'one'), (3, 'three')
---
REPLACE INTO parent VALUES (1, 'new')
REPLACE INTO parent VALUES (2, 'z')
SELECT * FROM cascading

### drop of a parent
PRAGMA foreign_keys = ON
CREATE TABLE parent(id INTEGER PRIMARY KEY, code TEXT UNIQUE)
CREATE TABLE cascading(x, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)
CREATE TABLE nulling(x, p REFERENCES parent(code) ON DELETE SET NULL ON UPDATE SET NULL)
CREATE TABLE defaulting(x, p INT DEFAULT 99 REFERENCES parent ON DELETE SET DEFAULT)
CREATE TABLE keyed(p INTEGER PRIMARY KEY REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, x) WITHOUT ROWID
INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (99, 'z')
INSERT INTO cascading VALUES ('x', 1), ('y', 1), ('z', 2)
INSERT INTO nulling VALUES ('x', 'a'), ('y', 'b')
INSERT INTO defaulting VALUES ('x', 1), ('y', 3)
INSERT INTO keyed VALUES (1, 'one'), (3, 'three')
---
DELETE FROM defaulting
DROP TABLE parent
DROP TABLE cascading

### foreign keys to the same table
PRAGMA foreign_keys = ON
CREATE TABLE t(id INTEGER PRIMARY KEY, up REFERENCES t ON DELETE CASCADE)
INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, 2), (5, 1), (6, NULL)
---
DELETE FROM t WHERE id = 2
UPDATE t SET up = 6 WHERE id = 5
DELETE FROM t WHERE id = 1
REPLACE INTO t VALUES (6, NULL)

### columns named like the rowid
CREATE TABLE t(rowid TEXT, a)
CREATE TABLE u(rowid, oid, _rowid_, a)
CREATE TABLE w(oid INTEGER PRIMARY KEY, rowid, a)
---
INSERT INTO t VALUES ('r', 1), ('s', 2)
UPDATE t SET oid = 50 WHERE a = 1
UPDATE t SET rowid = 'q', a = 7 WHERE a = 2
DELETE FROM t WHERE a = 1
INSERT INTO u VALUES (9, 8, 7, 6), (1, 1, 1, 1), (1, 1, 1, 1)
UPDATE u SET a = 3 WHERE rowid = 9
DELETE FROM u WHERE a = 1
INSERT INTO u VALUES (5, 5, 5, 5)
INSERT INTO w VALUES (1, 2, 3)
UPDATE w SET oid = 10, rowid = 11

### names that need quotes
CREATE TABLE "a ""b"" [c] `d`'e"("x y" INTEGER PRIMARY KEY, "select", "ü😀", """")
---
INSERT INTO "a ""b"" [c] `d`'e" VALUES (1, 2, 3, 4)
UPDATE "a ""b"" [c] `d`'e" SET "select" = 's', """" = 5
DELETE FROM "a ""b"" [c] `d`'e"

### an INTEGER PRIMARY KEY DESC is no rowid
CREATE TABLE t(id INTEGER PRIMARY KEY DESC, a)
---
INSERT INTO t(a) VALUES (1), (2)
INSERT INTO t VALUES (7, 7)
UPDATE t SET id = 8 WHERE id = 7
DELETE FROM t WHERE id IS NULL AND a = 1

### random rowids after the last one
CREATE TABLE t(id INTEGER PRIMARY KEY, a)
INSERT INTO t VALUES (9223372036854775807, 'last')
---
INSERT INTO t VALUES (-9223372036854775808, 'first')
UPDATE t SET a = 'changed'
UPDATE t SET id = 0 WHERE id > 0
