# The bytes of the small files beside the records, and of the row by which a projection knows where it is.
@0xd5c1f6a2b39e8c41;

struct SegmentHeader {
  # Fixed-size fields only, as record.capnp's Header. The first 128 bytes of a segment file hold it, after the magic.
  streamHigh @0 :UInt64;
  streamLow @1 :UInt64;
  firstOffset @2 :UInt64;     # offset of the first transaction in the segment
  prevHash0 @3 :UInt64;       # chain hash of the last record of the segment before
  prevHash1 @4 :UInt64;
  prevHash2 @5 :UInt64;
  prevHash3 @6 :UInt64;
  number @7 :UInt32;          # of the segment, from 0
  version @8 :UInt32;
}

struct AppliedIndex {
  # The one row of the projection's meta table, as a blob of fixed size.
  streamHigh @0 :UInt64;
  streamLow @1 :UInt64;
  nextOffset @2 :UInt64;      # transactions applied: the projection holds the offsets below
  idHigh @3 :UInt64;          # id of the transaction that wrote this
  idLow @4 :UInt64;
  prevHash0 @5 :UInt64;       # the chain hash its record builds on
  prevHash1 @6 :UInt64;
  prevHash2 @7 :UInt64;
  prevHash3 @8 :UInt64;
  position @9 :UInt64;        # byte position of that record in its segment
  segment @10 :UInt32;        # its segment's number
  version @11 :UInt32;
}

struct Index {
  # Sidecar of a closed segment; can be rebuilt from it.
  segment @0 :UInt32;
  length @1 :UInt64;          # bytes of the segment that hold records
  offsets @2 :List(UInt64);   # first offset of a record ...
  positions @3 :List(UInt64); # ... and where it begins
  times @4 :List(UInt64);     # its timestamp
}

struct KeyFile {
  # Stands between the magic VERITYKY and the BLAKE3 of both (docs/reference/keys.md).
  keys @0 :List(WrappedKey);
}

struct WrappedKey {
  keyId @0 :UInt64;
  derivation @1 :Text;        # "raw" or "scrypt"
  salt @2 :Data;              # 16 bytes, of scrypt or, for a raw key, of HKDF-SHA256
  costLog2 @3 :UInt8;         # scrypt N = 2^cost, r = 8, p = 1; 0 for a raw key
  nonce @4 :Data;             # 12 bytes
  wrapped @5 :Data;           # AES-256-GCM of the 32-byte database key under the master key; stream id and key id as associated data
  streamHigh @6 :UInt64;
  streamLow @7 :UInt64;
}
