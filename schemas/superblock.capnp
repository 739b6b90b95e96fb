# What a member of a cluster durably knows of itself (veritydb/vsr/superblock.py). A copy is stored as: magic "VSRSUPER",
# u32 number of the copy, u32 length, 16 bytes BLAKE3 of the message, the message.
@0xd5b7f0a9c2e4831b;

struct Superblock {
  cluster @0 :Data;           # 16 bytes, random: messages and files of other clusters are refused
  member @1 :UInt64;
  sequence @2 :UInt64;        # rises by one with each write
  parent @3 :Data;            # checksum of the superblock before; zeros in the first
  epoch @4 :UInt64;           # rises with each change of the members
  members @5 :List(UInt64);   # voting members, in the order in which they take turns as primary
  view @6 :UInt64;            # the member takes part in no view below
  logView @7 :UInt64;         # the view whose log it has
  commitMax @8 :UInt64;       # at least so much is committed
  checkpoint @9 :Checkpoint;
  headers @10 :List(Data);    # end of the log, newest first, when logView started or was left; empty = not known
  head @11 :UInt64;           # op of the first of them
}

struct Checkpoint {
  op @0 :UInt64;
  checksum @1 :Data;          # of the header of that op, 16 bytes
  root @2 :Data;              # BLAKE3 of the snapshot, 16 bytes; names its file
  size @3 :UInt64;            # bytes of the snapshot
}
