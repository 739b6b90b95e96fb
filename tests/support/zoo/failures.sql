# Statements that fail half-way, in every way in which they can, and the savepoints around them.
# program.py says how this file is read.

### insert or $mode that meets a unique key
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
INSERT INTO t(k) VALUES ('first')
INSERT OR $mode INTO t(k) VALUES ('x'), ('y'), ('b'), ('z')
INSERT INTO t(k) VALUES ('last')

### update or $mode that meets a unique key
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
UPDATE OR $mode t SET k = 'c', n = n + 1
UPDATE OR $mode t SET id = 2
INSERT INTO log VALUES ('on')

### insert or $mode that meets NOT NULL
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
INSERT OR $mode INTO t(k, n) VALUES ('x', 1), ('y', NULL), ('z', 2)
UPDATE OR $mode t SET n = NULL WHERE id > 1
INSERT INTO log VALUES ('on')

### insert or $mode with triggers
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
CREATE TRIGGER bi BEFORE INSERT ON t BEGIN INSERT INTO log VALUES ('before ' || new.k); END
CREATE TRIGGER ai AFTER INSERT ON t BEGIN INSERT INTO log VALUES ('after ' || new.k); END
CREATE TRIGGER au AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (old.k || ' to ' || new.k); END
---
INSERT INTO t(k) VALUES ('first')
INSERT OR $mode INTO t(k) VALUES ('x'), ('b'), ('y')
UPDATE OR $mode t SET k = 'q' WHERE id < 4
INSERT INTO log VALUES ('on')

### insert or $mode inside a trigger
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(a)
CREATE TABLE u(k UNIQUE)
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO u VALUES (new.a); INSERT OR $mode INTO u VALUES (1); END
INSERT INTO u VALUES (1)
---
INSERT INTO t VALUES (5), (6)
INSERT OR FAIL INTO t VALUES (7), (8)
INSERT OR IGNORE INTO t VALUES (9), (1)
SELECT * FROM u

### a column's ON CONFLICT $mode
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(k UNIQUE ON CONFLICT $mode, n)
INSERT INTO t VALUES (1, 1)
---
INSERT INTO t VALUES (2, 2), (1, 3), (4, 4)
UPDATE t SET k = 2
INSERT INTO t VALUES (9, 9)

### insert or $mode without rowid
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(k PRIMARY KEY, n CHECK(n <> 5)) WITHOUT ROWID
INSERT INTO t VALUES ('a', 1), ('b', 2)
---
INSERT OR $mode INTO t VALUES ('x', 1), ('a', 9), ('y', 1)
UPDATE OR $mode t SET k = 'b'
INSERT OR $mode INTO t VALUES ('p', 1), ('q', 5)
INSERT INTO t VALUES ('last', 0)

### insert or $mode with autoincrement
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, k UNIQUE)
INSERT INTO t(k) VALUES ('a')
---
INSERT OR $mode INTO t(k) VALUES ('b'), ('c'), ('a'), ('d')
INSERT INTO t(k) VALUES ('last')
SELECT * FROM sqlite_sequence

### insert or $mode with virtual columns
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(k UNIQUE, g AS (k || '!'))
INSERT INTO t VALUES ('a')
---
INSERT OR $mode INTO t VALUES ('b'), ('a'), ('c')
UPDATE OR $mode t SET k = 'z'
INSERT INTO t VALUES ('last')

### RAISE($how) in a $when trigger
for how in ABORT, 'no' | FAIL, 'no' | ROLLBACK, 'no' | IGNORE
for when in BEFORE | AFTER
CREATE TABLE t(a)
CREATE TABLE log(a)
CREATE TRIGGER g $when INSERT ON t WHEN new.a > 2 BEGIN INSERT INTO log VALUES (new.a); SELECT RAISE($how); END
CREATE TRIGGER u $when UPDATE ON t BEGIN INSERT INTO log VALUES (-new.a); SELECT RAISE($how); END
CREATE TRIGGER d $when DELETE ON t BEGIN INSERT INTO log VALUES (100 + old.a); SELECT RAISE($how); END
---
INSERT INTO t VALUES (0)
INSERT INTO t VALUES (1), (2), (3), (4)
INSERT INTO t VALUES (9)
UPDATE t SET a = 7
DELETE FROM t
INSERT INTO t VALUES (1)
SELECT * FROM log

### a statement that fails outside a constraint
CREATE TABLE s(g, x)
INSERT INTO s VALUES (1, 1), (2, 2), (3, 9223372036854775807), (3, 1)
CREATE TABLE t(a)
---
INSERT INTO t VALUES (0)
INSERT INTO t SELECT sum(x) FROM s GROUP BY g
UPDATE t SET a = abs(CASE a WHEN 2 THEN -9223372036854775807 - 1 ELSE a END)
INSERT INTO t VALUES (9)
SELECT * FROM t

### a statement that fails outside a constraint, with OR FAIL
CREATE TABLE s(g, x)
INSERT INTO s VALUES (1, 1), (2, 2), (3, 9223372036854775807), (3, 1)
CREATE TABLE t(a)
---
INSERT OR FAIL INTO t SELECT sum(x) FROM s GROUP BY g
INSERT OR ROLLBACK INTO t SELECT sum(x) FROM s GROUP BY g
INSERT INTO t VALUES (9)

### a trigger chain that is too deep
PRAGMA recursive_triggers = 1
CREATE TABLE t(n)
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO t VALUES (new.n + 1); END
---
INSERT INTO t VALUES (0)
SELECT count(*) FROM t

### a statement of one row that fails after its trigger wrote
CREATE TABLE t(a CHECK(a < 5))
CREATE TABLE log(a)
CREATE TRIGGER g BEFORE INSERT ON t BEGIN INSERT INTO log VALUES (new.a); END
---
INSERT INTO t VALUES (9)
INSERT OR FAIL INTO t VALUES (9)
INSERT OR IGNORE INTO t VALUES (9)
INSERT INTO t VALUES (1)

### savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT a
INSERT INTO t(k) VALUES ('in a')
SAVEPOINT b
UPDATE t SET n = 5
ROLLBACK TO b
INSERT INTO t(k) VALUES ('after b')
RELEASE b
ROLLBACK TO a
INSERT INTO t(k) VALUES ('after a')
RELEASE a

### savepoints of one name
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
INSERT INTO t(k) VALUES (1)
SAVEPOINT s
INSERT INTO t(k) VALUES (2)
SAVEPOINT S
INSERT INTO t(k) VALUES (3)
ROLLBACK TO s
RELEASE s
ROLLBACK TO s
INSERT INTO t(k) VALUES (4)
RELEASE s
RELEASE s
RELEASE s

### a savepoint that is rolled back whole
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
DELETE FROM t
ROLLBACK TO s
RELEASE s
SELECT * FROM t

### failures inside savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
INSERT INTO t(k) VALUES ('x')
INSERT INTO t(k) VALUES ('y'), ('a')
INSERT OR FAIL INTO t(k) VALUES ('z'), ('a')
SAVEPOINT r
INSERT OR FAIL INTO t(k) VALUES ('w'), ('a')
ROLLBACK TO r
INSERT INTO t(k) VALUES ('v')
RELEASE s
SELECT * FROM t

### a rollback inside savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
INSERT INTO t(k) VALUES ('x')
SAVEPOINT r
INSERT OR ROLLBACK INTO t(k) VALUES ('y'), ('a')
RELEASE r
INSERT INTO t(k) VALUES ('z')
ROLLBACK TO s

### schema changes in savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
CREATE TABLE u(a)
INSERT INTO u VALUES (1)
ALTER TABLE t ADD COLUMN extra
UPDATE t SET extra = 1
ROLLBACK TO s
INSERT INTO u VALUES (1)
INSERT INTO t(k) VALUES ('x')
SAVEPOINT r
DROP TABLE log
RELEASE r
RELEASE s

### settings in savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY, k UNIQUE, n NOT NULL DEFAULT 0)
CREATE TABLE log(what)
INSERT INTO t(k) VALUES ('a'), ('b'), ('c')
---
SAVEPOINT s
PRAGMA user_version = 5
ROLLBACK TO s
PRAGMA user_version
PRAGMA application_id = 6
RELEASE s

### sequences in savepoints
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)
INSERT INTO t(a) VALUES (1)
---
SAVEPOINT s
INSERT INTO t(a) VALUES (2), (3)
ROLLBACK TO s
INSERT INTO t(a) VALUES (4)
SAVEPOINT r
DELETE FROM sqlite_sequence
ROLLBACK TO r
RELEASE s
SELECT * FROM sqlite_sequence

### virtual columns in savepoints
CREATE TABLE t(a, g AS (a))
INSERT INTO t VALUES (1), (2)
---
SAVEPOINT s
UPDATE t SET a = 5
SAVEPOINT r
DELETE FROM t
ROLLBACK TO r
INSERT INTO t VALUES (3)
ROLLBACK TO s
UPDATE t SET a = 7 WHERE a = 1
RELEASE s

### invalid text in savepoints
CREATE TABLE t(a, b)
INSERT INTO t VALUES (CAST(x'ff' AS TEXT), 1)
---
SAVEPOINT s
UPDATE t SET b = 2
ROLLBACK TO s
INSERT INTO t VALUES (CAST(x'fe' AS TEXT), 3)
SAVEPOINT r
DELETE FROM t
ROLLBACK TO r
RELEASE s

### transaction statements that cannot be
CREATE TABLE t(a)
---
RELEASE nope
ROLLBACK TO nope
INSERT INTO t VALUES (1)

### statements that cannot be
CREATE TABLE t(a)
---
INSERT INTO nope VALUES (1)
INSERT INTO t VALUES (1, 2)
SELEC 1
INSERT INTO t(nope) VALUES (1)
CREATE TABLE t(a)
DROP INDEX nope
INSERT INTO sqlite_schema VALUES (1, 1, 1, 1, 1)
CREATE TABLE sqlite_mine(a)
ALTER TABLE sqlite_schema RENAME TO x
DELETE FROM t LIMIT 'x'
INSERT INTO t VALUES (abs(-9223372036854775807 - 1))

### a trigger that is refused when it is made
CREATE TABLE t(a)
---
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO nope VALUES (1); END
INSERT INTO t VALUES (1)
DROP TRIGGER g
INSERT INTO t VALUES (2)

### insert or $mode of a wrong type into a STRICT table
for mode in ABORT | FAIL | IGNORE | REPLACE | ROLLBACK
CREATE TABLE t(a INT, b TEXT) STRICT
INSERT INTO t VALUES (1, 'x'), (2, 'y')
---
INSERT OR $mode INTO t VALUES (3, 'z'), ('no', 'w'), (4, 'v')
INSERT INTO t VALUES (5, 'z'), ('no', 'w')
UPDATE OR $mode t SET a = CASE a WHEN 1 THEN 10 ELSE 'no' END
UPDATE t SET a = CASE a WHEN 1 THEN 10 ELSE 'no' END
SELECT * FROM t

### insert or fail under a deferred foreign key
PRAGMA foreign_keys = ON
CREATE TABLE p(a PRIMARY KEY)
CREATE TABLE c(x UNIQUE REFERENCES p DEFERRABLE INITIALLY DEFERRED)
---
INSERT OR FAIL INTO c VALUES (1), (2), (1)
INSERT OR FAIL INTO c VALUES (NULL), (3), (3)
INSERT INTO p VALUES (1), (2)
INSERT OR FAIL INTO c VALUES (1), (2), (1)
INSERT OR FAIL INTO c VALUES (2), (5), (5)
SELECT * FROM c
