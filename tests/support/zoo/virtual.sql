# Virtual tables that keep their content in the file.
# program.py says how this file is read.

### $kind: rows
for kind in fts3 | fts4 | fts5
CREATE VIRTUAL TABLE f USING $kind(title, body)
---
INSERT INTO f VALUES ('one', 'quick brown fox'), ('two', 'lazy dog')
INSERT INTO f(rowid, title, body) VALUES (50, 'three', 'quick dog')
UPDATE f SET body = 'slow fox' WHERE title = 'one'
SELECT rowid, title FROM f WHERE f MATCH 'fox OR quick'
DELETE FROM f WHERE rowid = 50
INSERT INTO f VALUES (NULL, 'ünï')
INSERT INTO f(f) VALUES ('integrity-check')
DELETE FROM f
INSERT INTO f VALUES ('again', 'x')

### $kind: savepoints and failures
for kind in fts3 | fts4 | fts5
CREATE VIRTUAL TABLE f USING $kind(x)
CREATE TABLE t(k UNIQUE)
INSERT INTO t VALUES (1)
---
INSERT INTO f VALUES ('a')
SAVEPOINT s
INSERT INTO f VALUES ('b')
ROLLBACK TO s
INSERT INTO f VALUES ('c')
INSERT INTO t VALUES (2), (3), (1)
SAVEPOINT r
DELETE FROM f WHERE rowid = 1
INSERT OR FAIL INTO t VALUES (7), (1)
ROLLBACK TO r
INSERT OR IGNORE INTO t VALUES (8), (1)
RELEASE s
SELECT rowid FROM f WHERE f MATCH 'a OR b OR c'
INSERT INTO f(f) VALUES ('integrity-check')

### $kind: made, filled and dropped
for kind in fts3 | fts4 | fts5
CREATE TABLE t(a)
---
CREATE VIRTUAL TABLE f USING $kind(x)
INSERT INTO f VALUES ('a b c')
INSERT INTO t VALUES (1)
DROP TABLE f
CREATE VIRTUAL TABLE IF NOT EXISTS f USING $kind(x, y)
INSERT INTO f VALUES ('d', 'e')
SELECT * FROM f

### $kind: written by triggers
for kind in fts3 | fts4 | fts5
CREATE TABLE t(id INTEGER PRIMARY KEY, a)
CREATE VIRTUAL TABLE f USING $kind(a)
CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO f(rowid, a) VALUES (new.id, new.a); END
CREATE TRIGGER d AFTER DELETE ON t BEGIN DELETE FROM f WHERE rowid = old.id; END
CREATE TRIGGER u AFTER UPDATE ON t BEGIN UPDATE f SET a = new.a WHERE rowid = new.id; END
---
INSERT INTO t(a) VALUES ('one'), ('two'), ('three')
UPDATE t SET a = a || ' more'
DELETE FROM t WHERE id = 2
REPLACE INTO t VALUES (1, 'replaced')
SELECT rowid FROM f WHERE f MATCH 'more'
INSERT INTO f(f) VALUES ('integrity-check')

### $kind: optimize and renamed
for kind in fts3 | fts4 | fts5
CREATE VIRTUAL TABLE f USING $kind(x)
INSERT INTO f VALUES ('a'), ('b')
INSERT INTO f VALUES ('c')
---
INSERT INTO f(f) VALUES ('optimize')
ALTER TABLE f RENAME TO g
INSERT INTO g VALUES ('d')
SELECT rowid FROM g WHERE g MATCH 'd'

### fts5: options
CREATE VIRTUAL TABLE f USING fts5(x, prefix='2 3', tokenize='porter unicode61')
INSERT INTO f VALUES ('running runner runs')
---
INSERT INTO f(f, rank) VALUES ('automerge', 8)
INSERT INTO f(f, rank) VALUES ('rank', 'bm25(10.0)')
INSERT INTO f(f, rank) VALUES ('pgsz', 64)
INSERT INTO f VALUES ('more runs of words to page over ' || hex(zeroblob(300)))
INSERT INTO f(f, rank) VALUES ('merge', 500)
SELECT rowid FROM f('run')

### fts5: external content
CREATE TABLE t(id INTEGER PRIMARY KEY, a, b)
CREATE VIRTUAL TABLE f USING fts5(a, b, content='t', content_rowid='id')
INSERT INTO t VALUES (1, 'x y', 'z'), (2, 'y', 'w')
---
INSERT INTO f(f) VALUES ('rebuild')
INSERT INTO f(f, rowid, a, b) VALUES ('delete', 1, 'x y', 'z')
DELETE FROM t WHERE id = 1
SELECT rowid FROM f('y')

### fts5: contentless
CREATE VIRTUAL TABLE f USING fts5(a, content='', contentless_delete=1)
---
INSERT INTO f(rowid, a) VALUES (1, 'x'), (2, 'y')
DELETE FROM f WHERE rowid = 1
INSERT OR REPLACE INTO f(rowid, a) VALUES (2, 'z')
INSERT INTO f(f) VALUES ('delete-all')
INSERT INTO f(rowid, a) VALUES (9, 'q')
SELECT rowid FROM f('q')

### fts5: invalid text and columns that are not indexed
CREATE VIRTUAL TABLE f USING fts5(a, b UNINDEXED)
---
INSERT INTO f VALUES ('word', CAST(x'ff' AS TEXT))
INSERT INTO f VALUES (CAST(x'61ff62' AS TEXT), 5)
UPDATE f SET a = 'other' WHERE rowid = 1
DELETE FROM f WHERE rowid = 2

### fts4: options
CREATE VIRTUAL TABLE f USING fts4(a, b, notindexed=b, prefix='2')
CREATE VIRTUAL TABLE g USING fts4(content='', a)
---
INSERT INTO f VALUES ('x y', 'z')
INSERT INTO g(docid, a) VALUES (5, 'q')
INSERT INTO f(f) VALUES ('automerge=4')
INSERT INTO f(f) VALUES ('rebuild')
SELECT docid FROM f WHERE f MATCH 'x'

### fts4: rows with triggers of other tables between
CREATE VIRTUAL TABLE f USING fts4(a)
CREATE TABLE t(a)
---
INSERT INTO f VALUES ('a')
INSERT INTO t VALUES (1)
INSERT INTO f VALUES ('b')
UPDATE t SET a = 2
DELETE FROM f WHERE docid = 1
CREATE INDEX i ON t(a)
INSERT INTO f VALUES ('c')

### fts5 and schema changes in turn
CREATE VIRTUAL TABLE f USING fts5(a)
---
INSERT INTO f VALUES ('a')
CREATE TABLE t(a)
INSERT INTO f VALUES ('b')
INSERT INTO t VALUES (1)
ALTER TABLE t ADD COLUMN b
INSERT INTO f VALUES ('c')
CREATE VIRTUAL TABLE g USING fts5(b)
INSERT INTO g VALUES ('d')
SELECT rowid FROM f('a OR b OR c')

### a virtual table made in a savepoint that is undone
CREATE TABLE t(a)
---
INSERT INTO t VALUES (1)
SAVEPOINT s
CREATE VIRTUAL TABLE f USING fts5(a)
INSERT INTO f VALUES ('x')
ROLLBACK TO s
RELEASE s
INSERT INTO t VALUES (2)

### rtree
CREATE VIRTUAL TABLE r USING rtree(id, minx, maxx, miny, maxy, +name TEXT)
---
INSERT INTO r VALUES (1, 0, 10, 0, 10, 'a'), (2, 5, 15, 5, 15, 'b')
WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 120) INSERT INTO r SELECT i, i, i + 1.5, -i, -i + 1, 'n' || i FROM n
UPDATE r SET maxx = 99 WHERE id = 1
DELETE FROM r WHERE id BETWEEN 20 AND 60
SELECT count(*) FROM r WHERE minx > 8 AND maxx < 30
REPLACE INTO r VALUES (2, 0, 1, 0, 1, 'c')
INSERT INTO r VALUES (2, 0, 1, 0, 1, 'd')
INSERT INTO r VALUES (900, 5, 1, 0, 1, 'wrong')
SELECT rtreecheck('r')

### rtree: savepoints, integers, dropped
CREATE VIRTUAL TABLE r USING rtree_i32(id, a, b)
---
INSERT INTO r VALUES (1, 1, 2)
SAVEPOINT s
INSERT INTO r VALUES (2, 3, 4)
DELETE FROM r WHERE id = 1
ROLLBACK TO s
UPDATE r SET id = 9
RELEASE s
SELECT * FROM r
ALTER TABLE r RENAME TO q
INSERT INTO q VALUES (5, 5, 5)
DROP TABLE q

### shadow tables written by hand
CREATE VIRTUAL TABLE f USING fts5(a)
INSERT INTO f VALUES ('x')
---
UPDATE f_content SET c0 = 'x'
INSERT INTO f_config VALUES ('mine', 5)
UPDATE f_config SET v = v
SELECT id FROM f_content

### virtual tables that keep nothing in the file
CREATE VIRTUAL TABLE f USING fts5(a)
INSERT INTO f VALUES ('x y'), ('y')
---
CREATE VIRTUAL TABLE v USING fts5vocab('f', 'row')
SELECT * FROM v
INSERT INTO f VALUES ('z')
CREATE VIRTUAL TABLE temp.tv USING fts5(a)
INSERT INTO tv VALUES ('temp')
SELECT * FROM tv('temp')
DROP TABLE v

### $kind: an index written by another statement after the schema has changed
for kind in fts3 | fts4 | fts5
CREATE VIRTUAL TABLE f USING $kind(x)
CREATE TABLE t(a)
CREATE TABLE k(id INTEGER PRIMARY KEY, a UNIQUE)
INSERT INTO k(a) VALUES (0), (9)
---
INSERT INTO k(a) SELECT max(a) + 1 FROM k UNION ALL SELECT max(a) + 2 FROM k
UPDATE f SET x = 1 WHERE rowid = 1
ALTER TABLE t ADD COLUMN b
INSERT INTO f VALUES ('p'), ('q')
INSERT INTO k(a) SELECT max(a) + 1 FROM k UNION ALL SELECT max(a) + 2 FROM k
ALTER TABLE t ADD COLUMN b
INSERT INTO f VALUES ('r')
INSERT INTO k(a) VALUES (5), (9)
SAVEPOINT s
CREATE INDEX i ON t(a)
INSERT INTO f VALUES ('t')
ROLLBACK TO s
INSERT INTO f VALUES ('u')
INSERT INTO k(a) VALUES (5), (9)
INSERT INTO k(a) SELECT max(a) + 1 FROM k UNION ALL SELECT max(a) + 2 FROM k
RELEASE s
SELECT rowid FROM f WHERE f MATCH 'p OR q OR r OR t OR u'
