# Values at the edges of their storage classes, as far as SQL alone can write them; edges.py has the others.
# program.py says how this file is read.

### rows that differ only in storage class
CREATE TABLE t(a)
INSERT INTO t VALUES (1), (1.0), ('1'), (x'31')
---
UPDATE t SET a = CAST(a AS TEXT) WHERE rowid < 3
UPDATE t SET a = 1.0
DELETE FROM t WHERE rowid = 2

### zeroblob
CREATE TABLE t(id INTEGER PRIMARY KEY, b)
---
INSERT INTO t VALUES (1, zeroblob(10)), (2, zeroblob(0)), (3, zeroblob(100000))
UPDATE t SET b = zeroblob(5) WHERE id = 3
DELETE FROM t WHERE id = 1

### text that is not UTF-8
CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b)
CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID
---
INSERT INTO t(a, b) VALUES (CAST(x'80' AS TEXT), CAST(x'80' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'FF' AS TEXT), CAST(x'FF' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'C0AF' AS TEXT), CAST(x'C0AF' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'EDA080' AS TEXT), CAST(x'EDA080' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'41FF42' AS TEXT), CAST(x'41FF42' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'E282' AS TEXT), CAST(x'E282' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'F4908080' AS TEXT), CAST(x'F4908080' AS TEXT))
INSERT INTO t(a, b) VALUES (CAST(x'00FF00' AS TEXT), CAST(x'00FF00' AS TEXT))
UPDATE t SET b = 'ok' WHERE id % 2
UPDATE t SET a = a || 'x'
UPDATE t SET id = id + 100 WHERE id > 4
DELETE FROM t WHERE id = 2
INSERT INTO w VALUES (CAST(x'80' AS TEXT), 0)
INSERT INTO w VALUES (CAST(x'FF' AS TEXT), 1)
INSERT INTO w VALUES (CAST(x'C0AF' AS TEXT), 2)
INSERT INTO w VALUES (CAST(x'EDA080' AS TEXT), 3)
INSERT INTO w VALUES (CAST(x'41FF42' AS TEXT), 4)
INSERT INTO w VALUES (CAST(x'E282' AS TEXT), 5)
INSERT INTO w VALUES (CAST(x'F4908080' AS TEXT), 6)
INSERT INTO w VALUES (CAST(x'00FF00' AS TEXT), 7)
UPDATE w SET v = v + 1
UPDATE w SET k = k || 'y' WHERE v > 3
DELETE FROM w WHERE v = 2

### text that is not UTF-8 in a run among good rows
CREATE TABLE t(a)
---
INSERT INTO t VALUES ('good'), (CAST(x'ff' AS TEXT)), ('also'), (CAST(x'80' AS TEXT)), (5)
UPDATE t SET a = a || '.'
DELETE FROM t

### text that is not UTF-8, changed and put back
CREATE TABLE t(a, b)
INSERT INTO t VALUES (CAST(x'ff' AS TEXT), 1), ('ok', 2)
---
UPDATE t SET b = 5
DELETE FROM t WHERE rowid = 1
INSERT INTO t(rowid, a, b) VALUES (1, CAST(x'ff' AS TEXT), 1)
UPDATE t SET b = rowid

### numbers in text columns and text in number columns
CREATE TABLE t(id INTEGER PRIMARY KEY, none, i INTEGER, r REAL, t TEXT, n NUMERIC, b BLOB)
---
INSERT INTO t(i, r, t, n) VALUES ('12', '12', 12, '12.0'), ('12.5', 'x', 12.5, '1e2'), (x'31', 1, NULL, '9223372036854775808')
UPDATE t SET i = t, t = i
UPDATE t SET r = i

### json
CREATE TABLE t(id INTEGER PRIMARY KEY, j)
---
INSERT INTO t VALUES (1, json('{"a":[1,2]}')), (2, jsonb('{"a":null}'))
UPDATE t SET j = json_set(j, '$.b', 5)
UPDATE t SET j = jsonb_patch(j, '{"a":9}') WHERE id = 2
SELECT id, json(j) FROM t

### built-in collations
CREATE TABLE t(a TEXT COLLATE NOCASE UNIQUE, b TEXT COLLATE RTRIM, c COLLATE BINARY)
CREATE UNIQUE INDEX i ON t(b)
---
INSERT INTO t VALUES ('A', 'x', 1)
INSERT INTO t VALUES ('a', 'y', 1)
INSERT INTO t VALUES ('b', 'x  ', 1)
REPLACE INTO t VALUES ('a', 'x ', 2)
UPDATE t SET a = 'a'
UPDATE t SET b = 'x   '
DELETE FROM t WHERE a = 'A'

### short rows
CREATE TABLE t(a)
INSERT INTO t VALUES (1), (2), (3)
ALTER TABLE t ADD COLUMN r REAL DEFAULT 7
ALTER TABLE t ADD COLUMN s TEXT DEFAULT 8
ALTER TABLE t ADD COLUMN n NUMERIC DEFAULT '9'
ALTER TABLE t ADD COLUMN z
---
UPDATE t SET a = 10 WHERE a = 1
DELETE FROM t WHERE a = 2
UPDATE t SET z = 1
INSERT INTO t(a) VALUES (4)
UPDATE t SET r = 7.5
SELECT * FROM t

### a large value
CREATE TABLE t(id INTEGER PRIMARY KEY, b)
---
INSERT INTO t VALUES (1, zeroblob(3000000))
UPDATE t SET b = CAST(b AS TEXT) || 'end'
DELETE FROM t
