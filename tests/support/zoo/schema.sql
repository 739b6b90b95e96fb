# Schema statements, maintenance, header fields, temp tables.
# program.py says how this file is read.

### create table
---
CREATE TABLE a(x)
CREATE TABLE IF NOT EXISTS a(y)
CREATE TABLE a(z)
CREATE TABLE b(x PRIMARY KEY, y UNIQUE, CHECK(x > y)) WITHOUT ROWID
CREATE TABLE "with 'quotes' ""and"" spaces"("a b")
CREATE TABLE main.c(x)
INSERT INTO a VALUES (1)
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### create table as select
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
CREATE TABLE c AS SELECT * FROM t
CREATE TABLE d AS SELECT a || '!' AS x, b * 1.5 AS y, NULL AS z FROM t ORDER BY id DESC
INSERT INTO c VALUES (9, 'n', 9)
DELETE FROM d WHERE rowid = 2
CREATE TABLE IF NOT EXISTS c AS SELECT 1
CREATE TABLE e AS VALUES (1), (1.0), ('1'), (x'31'), (NULL), (CAST(x'ff' AS TEXT))
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### create table as select of what this transaction wrote
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
UPDATE t SET b = b + 1
CREATE TABLE c AS SELECT * FROM t
UPDATE c SET a = 'c'
DROP TABLE c
CREATE TABLE c AS SELECT count(*) FROM t

### create table as select that fails
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
CREATE TABLE c AS SELECT abs(-9223372036854775808 + 0 * id) FROM t
CREATE TABLE c AS SELECT nope FROM t
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### drop table
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
DROP TABLE t
DROP TABLE t
DROP TABLE IF EXISTS t
CREATE TABLE t(other)
INSERT INTO t VALUES ('new')
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### rows changed, then the table dropped
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
UPDATE t SET a = 1
INSERT INTO t(a) VALUES (5)
DROP TABLE t

### alter table rename
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE INDEX i ON t(a)
CREATE VIEW v AS SELECT a FROM t
CREATE TABLE l(x)
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO l VALUES (new.a); END
---
INSERT INTO t(a) VALUES (5)
ALTER TABLE t RENAME TO u
INSERT INTO u(a) VALUES (6)
ALTER TABLE u RENAME COLUMN a TO aa
UPDATE u SET aa = 7 WHERE id = 1
INSERT INTO u(aa) VALUES (8)
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### alter table rename with legacy_alter_table
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE VIEW v AS SELECT a FROM t
PRAGMA legacy_alter_table = ON
---
ALTER TABLE t RENAME TO u
INSERT INTO u(a) VALUES (6)
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### alter table add column
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
ALTER TABLE t ADD COLUMN c
UPDATE t SET c = 1 WHERE id = 1
ALTER TABLE t ADD COLUMN d INTEGER NOT NULL DEFAULT 5
UPDATE t SET a = 'q' WHERE id = 2
DELETE FROM t WHERE id = 3
ALTER TABLE t ADD COLUMN r REAL DEFAULT 1
UPDATE t SET b = 1
INSERT INTO t(a) VALUES ('n')
ALTER TABLE t ADD COLUMN e NOT NULL
ALTER TABLE t ADD COLUMN a
ALTER TABLE t ADD COLUMN g AS (b + d)
UPDATE t SET b = 2
SELECT * FROM t

### alter table add column with a check that old rows break
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
ALTER TABLE t ADD COLUMN c CHECK(b > 100) DEFAULT 1
SELECT count(*) FROM t

### alter table add column with a check
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
ALTER TABLE t ADD COLUMN c CHECK(b > 1) DEFAULT 1
INSERT INTO t VALUES (9, 'a', 0, 1)
INSERT INTO t VALUES (9, 'a', 2, 1)

### alter table drop column
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
ALTER TABLE t DROP COLUMN a
UPDATE t SET b = 1 WHERE id = 1
INSERT INTO t VALUES (9, 9)
ALTER TABLE t DROP COLUMN nope
ALTER TABLE t DROP COLUMN id
ALTER TABLE t ADD COLUMN a DEFAULT 'again'
UPDATE t SET b = 5 WHERE id = 2
SELECT * FROM t

### alter table drop column of short and virtual rows
CREATE TABLE t(a, b, g AS (a + b))
INSERT INTO t VALUES (1, 2), (3, 4)
ALTER TABLE t ADD COLUMN c DEFAULT 6
---
UPDATE t SET a = 5 WHERE a = 1
ALTER TABLE t DROP COLUMN g
UPDATE t SET b = 9
ALTER TABLE t DROP COLUMN b
DELETE FROM t WHERE a = 3
SELECT * FROM t

### row changes on both sides of a schema change
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
UPDATE t SET a = 'before' WHERE id = 1
ALTER TABLE t ADD COLUMN c DEFAULT 'd'
UPDATE t SET c = 'after' WHERE id = 1
ALTER TABLE t RENAME COLUMN a TO n
UPDATE t SET n = 'renamed'
ALTER TABLE t DROP COLUMN b
INSERT INTO t(n) VALUES (1)

### indexes
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
CREATE INDEX i ON t(a)
CREATE UNIQUE INDEX u ON t(b DESC)
CREATE INDEX p ON t(a) WHERE b > 15
CREATE INDEX e ON t(lower(a), b + 1)
CREATE INDEX c ON t(a COLLATE NOCASE)
INSERT INTO t VALUES (9, 'Q', 10)
INSERT INTO t VALUES (9, 'Q', 90)
UPDATE t SET a = upper(a)
DROP INDEX p
CREATE INDEX IF NOT EXISTS i ON t(b)
DROP INDEX IF EXISTS nope
DROP INDEX nope
REINDEX
REINDEX t
REINDEX NOCASE
DELETE FROM t WHERE a = 'X'
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### a unique index that cannot be made
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
INSERT INTO t VALUES (4, 'x', 40)
---
CREATE UNIQUE INDEX u ON t(a)
DELETE FROM t WHERE id = 4
CREATE UNIQUE INDEX u ON t(a)

### views
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
CREATE VIEW v AS SELECT a, b FROM t
CREATE VIEW IF NOT EXISTS v AS SELECT 1
SELECT * FROM v
INSERT INTO v VALUES (1, 2)
DROP VIEW v
CREATE VIEW v(x) AS SELECT a FROM t
DROP VIEW IF EXISTS nope
DROP TABLE v
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### triggers come and go
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE TABLE l(x)
---
CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO l VALUES (new.id); END
INSERT INTO t(a) VALUES (1)
DROP TRIGGER g
INSERT INTO t(a) VALUES (2)
CREATE TRIGGER g AFTER DELETE ON t BEGIN INSERT INTO l VALUES (-old.id); DELETE FROM l WHERE x > 0; END
DELETE FROM t WHERE id > 2
CREATE TRIGGER IF NOT EXISTS g AFTER DELETE ON t BEGIN SELECT 1; END
DROP TRIGGER IF EXISTS nope
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### double-quoted strings in the schema
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
CREATE INDEX i ON t(a, "text")
CREATE TABLE d(x CHECK(x <> "no"))
INSERT INTO d VALUES ('yes')
INSERT INTO d VALUES ('no')
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### schema statements under EXPLAIN change nothing
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
EXPLAIN DROP TABLE t
EXPLAIN CREATE TABLE u(a)
EXPLAIN ALTER TABLE t ADD COLUMN x
SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE tbl_name <> '_veritydb_applied' ORDER BY name

### one table made many times over
---
CREATE TABLE t(a, c0 INTEGER PRIMARY KEY)
INSERT INTO t(a) VALUES (1)
UPDATE t SET a = 2
DROP TABLE t
CREATE TABLE t(a, c1 INTEGER PRIMARY KEY)
INSERT INTO t(a) VALUES (1)
UPDATE t SET a = 2
DROP TABLE t
CREATE TABLE t(a, c2 INTEGER PRIMARY KEY)
INSERT INTO t(a) VALUES (1)
UPDATE t SET a = 2
DROP TABLE t
CREATE TABLE t(a, c3 INTEGER PRIMARY KEY)
INSERT INTO t(a) VALUES (1)
UPDATE t SET a = 2
DROP TABLE t

### vacuum [alone]
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE TABLE r(a)
INSERT INTO r VALUES (1), (2), (3), (4)
---
DELETE FROM r WHERE a = 2
VACUUM
SELECT count(*) FROM r
INSERT INTO r VALUES (5)
UPDATE r SET a = a + 10 WHERE a > 3
DELETE FROM r WHERE a = 1
VACUUM main
UPDATE r SET a = 0
VACUUM INTO ''

### vacuum with a virtual table [alone]
CREATE VIRTUAL TABLE f USING fts5(x)
INSERT INTO f VALUES ('a b'), ('c')
CREATE TABLE r(a)
INSERT INTO r VALUES (1), (2), (3)
DELETE FROM r WHERE a < 3
---
VACUUM
INSERT INTO f VALUES ('d')
INSERT INTO r VALUES (4)
SELECT rowid FROM f('c OR d')

### vacuum with sequences and statistics [alone]
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a)
CREATE INDEX i ON t(a)
INSERT INTO t(a) VALUES (1), (2), (2)
ANALYZE
DELETE FROM t WHERE id = 3
---
VACUUM
INSERT INTO t(a) VALUES (9)

### analyze
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE INDEX i ON t(a)
CREATE INDEX j ON t(b)
---
ANALYZE
INSERT INTO t(a, b) VALUES ('x', 1), ('x', 2)
ANALYZE t
DROP INDEX i
ANALYZE main.j
SELECT * FROM sqlite_stat1
UPDATE sqlite_stat1 SET stat = '100 1' WHERE idx = 'j'
DELETE FROM sqlite_stat1
ANALYZE
DROP TABLE t
SELECT count(*) FROM sqlite_stat1

### analyze without anything to analyze
CREATE TABLE t(a)
---
ANALYZE
PRAGMA optimize
INSERT INTO t VALUES (1)
ANALYZE
ANALYZE nope
ANALYZE sqlite_schema
SELECT * FROM sqlite_stat1

### header fields
CREATE TABLE t(a)
---
PRAGMA user_version = 7
INSERT INTO t VALUES (1)
PRAGMA user_version
PRAGMA application_id = 0x1234
PRAGMA main.user_version = -5
PRAGMA user_version(12)
PRAGMA application_id
PRAGMA user_version = 'nonsense'
PRAGMA user_version

### header fields alone in a transaction
---
PRAGMA user_version = 3
PRAGMA application_id = -1

### auto_vacuum changed by vacuum [alone]
CREATE TABLE t(a)
INSERT INTO t VALUES (1), (2)
DELETE FROM t WHERE a = 1
---
PRAGMA auto_vacuum = INCREMENTAL
VACUUM
PRAGMA auto_vacuum
INSERT INTO t VALUES (3)

### page_size before the first table [plain]
PRAGMA page_size = 8192
CREATE TABLE t(a)
---
INSERT INTO t VALUES (zeroblob(9000))
UPDATE t SET a = zeroblob(10)

### encoding once there are tables
CREATE TABLE t(a)
---
PRAGMA encoding = 'UTF-16'
PRAGMA encoding
INSERT INTO t VALUES ('ü')

### pragmas that only read or only tune
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
---
PRAGMA table_info(t)
PRAGMA cache_size = 50
PRAGMA foreign_key_check
PRAGMA integrity_check
PRAGMA quick_check
PRAGMA index_list('t')
PRAGMA case_sensitive_like = ON
PRAGMA recursive_triggers
PRAGMA nonsense = 5
PRAGMA reverse_unordered_selects = 1

### temp tables
CREATE TABLE t(a)
---
CREATE TEMP TABLE s(a)
INSERT INTO s VALUES (1), (2)
UPDATE s SET a = a + 1
INSERT INTO t SELECT a FROM s
CREATE TEMPORARY TABLE t(a, shadowing)
INSERT INTO t VALUES (1, 2)
INSERT INTO main.t VALUES (3)
DELETE FROM temp.t
DROP TABLE temp.t
INSERT INTO t VALUES (4)
CREATE TEMP TABLE c AS SELECT * FROM main.t
CREATE INDEX temp.i ON s(a)
ALTER TABLE s ADD COLUMN b
ALTER TABLE s RENAME TO s2
CREATE TEMP VIEW v AS SELECT * FROM s2
SELECT * FROM v
DROP TABLE c
SELECT name FROM sqlite_temp_schema

### temp autoincrement beside main autoincrement
CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)
CREATE TEMP TABLE s(id INTEGER PRIMARY KEY AUTOINCREMENT)
---
INSERT INTO s VALUES (50)
INSERT INTO t DEFAULT VALUES
INSERT INTO s DEFAULT VALUES
SELECT * FROM temp.sqlite_sequence
SELECT * FROM main.sqlite_sequence

### temp views and triggers that shadow
CREATE TABLE t(a)
---
CREATE TEMP VIEW t AS SELECT 5 AS a
INSERT INTO t VALUES (1)
INSERT INTO main.t VALUES (1)
DROP VIEW t
SELECT * FROM t

### a schema and its rows in one go
---
CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, n)
CREATE TABLE b(a REFERENCES a, PRIMARY KEY(a)) WITHOUT ROWID
INSERT INTO a(n) VALUES ('x'), ('y')
INSERT INTO b SELECT id FROM a
CREATE INDEX i ON a(n)
CREATE TRIGGER g AFTER DELETE ON a BEGIN DELETE FROM b WHERE a = old.id; END
DELETE FROM a WHERE n = 'x'
CREATE VIEW v AS SELECT * FROM a JOIN b ON b.a = a.id
SELECT * FROM v

### alter table on tables with triggers and views that are broken
CREATE TABLE t(a, b)
CREATE VIEW v AS SELECT nope FROM t
---
ALTER TABLE t RENAME TO u
ALTER TABLE t RENAME COLUMN a TO c
DROP VIEW v
ALTER TABLE t RENAME TO u
INSERT INTO u VALUES (1, 2)

### the usual twelve steps to change a table
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
INSERT INTO t VALUES (1, 'x', 10), (2, 'y', 20), (3, 'z', 30)
CREATE INDEX i ON t(a)
---
CREATE TABLE t_new(id INTEGER PRIMARY KEY, a TEXT NOT NULL, b REAL)
INSERT INTO t_new SELECT * FROM t
DROP TABLE t
ALTER TABLE t_new RENAME TO t
CREATE INDEX i ON t(a)
UPDATE t SET b = b / 4
PRAGMA foreign_key_check
