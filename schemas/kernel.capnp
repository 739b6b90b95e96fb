# What clients ask of a group of nodes, what they are answered, and the state of a node between two ops.
#
# Messages of one segment whose objects stand in the order of their pointers, so each value has one possible encoding.
# Writers fill it by position (veritydb.kernel); readers refuse any other, so that all nodes decide alike.
@0xb2a1d6f05c3e4a2b;

struct Batch {
  # Body of an op: requests of many clients, executed in this order.
  requests @0 :List(Request);
}

struct Request {
  clientHigh @0 :UInt64;      # 128 bits that the client drew
  clientLow @1 :UInt64;
  session @2 :UInt64;         # the op that registered the client; 0 to register
  number @3 :UInt64;          # rises by one with each request of the session; 0 registers
  command @4 :Data;           # a Command
}

struct Command {
  version @0 :UInt16;         # of this format: 1
  union {
    register @1 :Void;
    createStream :group {
      dataClass @2 :UInt16;   # 1 PHI, 2 not PHI, 3 de-identified
      streamHigh @3 :UInt64;  # zero: the group chooses one
      streamLow @4 :UInt64;
      region0 @5 :UInt64;     # where it must stay: up to 32 characters of a-z 0-9 -, zero-filled; zero: anywhere
      region1 @6 :UInt64;
      region2 @7 :UInt64;
      region3 @8 :UInt64;
      name @18 :Data;         # what people call it, UTF-8, up to 64 bytes; may be empty
    }
    append :group {
      ids @9 :Data;           # 16 bytes each: the record's transactions but the last, which the record's header names
      record @10 :Data;       # header (record.capnp) and body as stored; says stream, offset and hash it builds on
    }
    resolve :group {
      streamHigh @11 :UInt64;
      streamLow @12 :UInt64;
      idHigh @13 :UInt64;     # of the transaction
      idLow @14 :UInt64;
      since @15 :UInt64;      # the offset on which it was tried to build; 0 if that is not known
    }
    listStreams :group {
      limit @16 :UInt16;
      after @17 :UInt64;      # number of streams to pass over, in the order in which they were created
    }
    dropStream :group {       # append nothing any more, set its records aside
      streamHigh @19 :UInt64;
      streamLow @20 :UInt64;
    }
  }
}

struct Reply {
  version @0 :UInt16;
  union {
    registered :group {
      session @1 :UInt64;
    }
    created :group {
      existed @2 :UInt16;     # 1: it was there, with this placement
      streamHigh @3 :UInt64;
      streamLow @4 :UInt64;
    }
    appended :group {
      nextOffset @5 :UInt64;  # the new head
      hash0 @6 :UInt64;
      hash1 @7 :UInt64;
      hash2 @8 :UInt64;
      hash3 @9 :UInt64;
      firstOffset @10 :UInt64; # of the record's transactions
    }
    conflict :group {         # the record does not build on the head, which is this
      nextOffset @11 :UInt64;
      hash0 @12 :UInt64;
      hash1 @13 :UInt64;
      hash2 @14 :UInt64;
      hash3 @15 :UInt64;
    }
    known :group {            # a transaction with this id is committed
      offset @16 :UInt64;
      hash0 @17 :UInt64;      # of its record
      hash1 @18 :UInt64;
      hash2 @19 :UInt64;
      hash3 @20 :UInt64;
      idHigh @21 :UInt64;
      idLow @22 :UInt64;
    }
    forbidden :group {        # no transaction with this id is committed, nor will one be
      idHigh @23 :UInt64;
      idLow @24 :UInt64;
    }
    forgotten :group {        # the id may be that of a transaction below this offset; the records tell
      offset @25 :UInt64;
    }
    streams :group {
      list @26 :List(StreamInfo);
    }
    refused :group {
      reason @27 :UInt16;     # veritydb.kernel.replies.Refusal
    }
    dropped :group {          # the stream takes no appends any more
      nextOffset @28 :UInt64; # where it ended
      streamHigh @29 :UInt64;
      streamLow @30 :UInt64;
    }
  }
}

struct StreamInfo {
  streamHigh @0 :UInt64;
  streamLow @1 :UInt64;
  region0 @2 :UInt64;
  region1 @3 :UInt64;
  region2 @4 :UInt64;
  region3 @5 :UInt64;
  created @6 :UInt64;         # cluster time, microseconds since 1970-01-01 UTC
  nextOffset @7 :UInt64;
  hash0 @8 :UInt64;
  hash1 @9 :UInt64;
  hash2 @10 :UInt64;
  hash3 @11 :UInt64;
  dataClass @12 :UInt64;
  name @13 :Data;
  dropped @14 :UInt64;        # cluster time; 0: it was not
}

struct State {
  # All that a node has decided, without the records.
  version @0 :UInt64;         # of this format: 2
  op @1 :UInt64;              # the last one applied
  timestamp @2 :UInt64;       # its
  oldest @3 :UInt64;          # op from which on ids are remembered
  streams @4 :List(StreamState);   # in the order in which they were created
  ids @5 :List(Fate);         # in the order in which they became known
  sessions @6 :List(SessionState); # by client
}

struct StreamState {
  streamHigh @0 :UInt64;
  streamLow @1 :UInt64;
  region0 @2 :UInt64;
  region1 @3 :UInt64;
  region2 @4 :UInt64;
  region3 @5 :UInt64;
  created @6 :UInt64;
  nextOffset @7 :UInt64;
  hash0 @8 :UInt64;
  hash1 @9 :UInt64;
  hash2 @10 :UInt64;
  hash3 @11 :UInt64;
  timestamp @12 :UInt64;      # of the last record
  forgotten @13 :UInt64;      # ids of transactions below this offset may have been dropped
  generation @14 :UInt32;     # of the last record
  dataClass @15 :UInt32;
  name @16 :Data;             # what people call it
  dropped @17 :UInt64;        # cluster time; 0: it was not
}

struct Fate {
  # What became of a transaction.
  streamHigh @0 :UInt64;
  streamLow @1 :UInt64;
  idHigh @2 :UInt64;
  idLow @3 :UInt64;
  op @4 :UInt64;              # that decided it, or last kept it from being dropped
  offset @5 :UInt64;          # its own; of a tombstone, where the stream ended
  hash0 @6 :UInt64;           # of its record; zero: a tombstone, it is not committed and never will be
  hash1 @7 :UInt64;
  hash2 @8 :UInt64;
  hash3 @9 :UInt64;
}

struct SessionState {
  clientHigh @0 :UInt64;
  clientLow @1 :UInt64;
  session @2 :UInt64;
  number @3 :UInt64;          # of the last request
  op @4 :UInt64;              # that executed it
  checksumHigh @5 :UInt64;    # BLAKE3 of its command, 16 bytes
  checksumLow @6 :UInt64;
  reply @7 :Data;             # to it
}
