# The bytes of one log record. A record is stored as: frame prefix, header, parts (docs/internals/log-format.md).
@0xb2a1d6f05c3e4a17;

struct Header {
  # In clear. Only fixed-size fields: the message is one segment whose bytes have one possible layout, so a writer may
  # fill it by position (veritydb.log.record); a test reads it back through this definition.
  streamHigh @0 :UInt64;      # 128-bit random id of the stream (database)
  streamLow @1 :UInt64;
  firstOffset @2 :UInt64;     # offset of the record's first transaction; a record without transactions names the next one
  timestamp @3 :UInt64;       # microseconds since 1970-01-01 UTC; never lower than the record before
  prevHash0 @4 :UInt64;       # chain hash of the record before, 32 bytes as four little-endian words; zero in the first
  prevHash1 @5 :UInt64;
  prevHash2 @6 :UInt64;
  prevHash3 @7 :UInt64;
  idHigh @8 :UInt64;          # idempotency id of the record's last transaction
  idLow @9 :UInt64;
  keyId @10 :UInt64;          # names the database key that sealed the parts; 0 = not sealed
  salt0 @11 :UInt64;          # 32 fresh random bytes of the writer: data key = HKDF(database key, salt)
  salt1 @12 :UInt64;
  salt2 @13 :UInt64;
  salt3 @14 :UInt64;
  nonceHigh @15 :UInt64;      # 96-bit nonce of the tail part, from the operating system
  partsDigest0 @16 :UInt64;   # SHA-256 over the spilled parts as stored (length, nonce, bytes each); zero if there are none
  partsDigest1 @17 :UInt64;
  partsDigest2 @18 :UInt64;
  partsDigest3 @19 :UInt64;
  partsLength @20 :UInt64;    # bytes of all spilled parts as stored
  tailLength @21 :UInt32;     # bytes of the tail part as stored (ciphertext and tag)
  nonceLow @22 :UInt32;
  partCount @23 :UInt32;      # spilled parts before the tail
  generation @24 :UInt32;     # rises at every recovery that cut something
  transactionCount @25 :UInt32;
  kind @26 :UInt16;           # 1 data, 2 generation, 3 checkpoint, 4 keys
  version @27 :UInt16;        # of this format: 1
}

struct Part {
  # The plaintext of one sealed part. Only the last transaction of a spilled part may go on in the next part.
  transactions @0 :List(Transaction);
}

struct Transaction {
  idHigh @0 :UInt64;
  idLow @1 :UInt64;
  actor @2 :Text;             # who, as given by the application; empty = not said
  reason @3 :Text;            # why
  events @4 :List(Event);     # in the order in which they happened
  continues @5 :Bool;         # the next part goes on with this transaction: id, actor and reason stand in its last piece
}

struct Event {
  union {
    rows @0 :Rows;
    row @1 :Row;              # a run of one row, smaller and faster than columns
    ddl @2 :Schema;             # a schema statement
    blob @3 :BlobWrite;
    setting @4 :Setting;
    sequence @5 :Sequence;
    clear @6 :Text;           # name of a table whose whole content goes; what follows it is its new content
    genesis @7 :Genesis;
    cut @8 :Cut;
  }
}

struct Rows {
  # A run of changes of one kind to one table, stored by column. Images cover every stored column in table order.
  table @0 :Text;
  op @1 :UInt8;               # 1 insert, 2 update, 3 delete
  count @2 :UInt32;
  rowids @3 :List(Int64);     # empty for a WITHOUT ROWID table. insert: the new rowid; update, delete: the old one
  rowidsAfter @4 :List(Int64); # update only, and only if a rowid changed
  before @5 :List(Column);    # update and delete
  after @6 :List(Column);     # insert and update
  net @7 :Bool;               # the net effect of several changes: apply the run as a set (all old rows out, all new in)
}

struct Row {
  table @0 :Text;
  op @1 :UInt8;
  hasRowid @2 :Bool;
  rowid @3 :Int64;
  rowidAfter @4 :Int64;
  before @5 :Data;            # SQLite record format, https://www.sqlite.org/fileformat2.html#record_format, text as UTF-8
  after @6 :Data;
}

struct Column {
  # The values of one column of a run. kind: 0 null, 1 integer, 2 real, 3 text, 4 blob, 5 text that is not valid UTF-8.
  kind @0 :UInt8;             # of every value, if kinds is empty
  kinds @1 :Data;             # one byte a row, if they differ
  ints @2 :List(Int64);       # the integers, in row order
  floats @3 :List(Float64);
  lengths @4 :List(UInt32);   # of each text (in characters), blob and invalid text (in bytes), in row order
  text @5 :Data;              # the texts, joined, UTF-8
  blob @6 :Data;              # the blobs and invalid texts, joined
}

struct Schema {
  sql @0 :Text;               # the statement, as executed
  legacyAlterTable @1 :Bool;  # PRAGMA legacy_alter_table when it ran
  dqsDdl @2 :Bool;            # double-quoted strings allowed in DDL when it ran
  digest @3 :Data;            # BLAKE3-128 of sqlite_schema after it (type, name, tbl_name, sql, sorted); replay compares
}

struct BlobWrite {
  table @0 :Text;
  rowid @1 :Int64;
  column @2 :Text;
  offset @3 :UInt32;          # bytes
  data @4 :Data;
  before @5 :Data;            # what the bytes were
}

struct Setting {
  name @0 :Text;              # user_version, application_id, auto_vacuum
  value @1 :Int64;
}

struct Sequence {
  table @0 :Text;
  value @1 :Column;           # exactly one value; any storage class, for sqlite_sequence is a table that people may write
  gone @2 :Bool;              # the row was deleted
}

struct Genesis {
  # The first event of a stream.
  encoding @0 :Text;          # UTF-8, UTF-16le, UTF-16be
  pageSize @1 :UInt32;
  autoVacuum @2 :UInt32;
  software @3 :Text;
}

struct Cut {
  # What a recovery removed from the end of the log; nothing of it had been acknowledged.
  segment @0 :Text;
  position @1 :UInt64;        # bytes
  length @2 :UInt64;          # bytes that were not zero
  why @3 :Text;
}
