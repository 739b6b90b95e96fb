# What members of a group and clients say to each other (veritydb/vsr/messages.py has the meaning of each), and the
# header of an op as it is stored and sent.
#
# On the wire: 4 bytes, "VSRP" (between members, and from who may change them) or "VSRC" (with clients), u32 length of the message, 16 bytes cluster,
# 32 bytes keyed BLAKE3 of those 24 bytes and the message, the message. docs/internals/vsr-wire.md has it byte by byte.
#
# A message is one segment: the root, with just as many words as its kind has, and its byte string, so each value has
# one possible encoding. It is filled and read by position.
@0xe3c9a1b70d6f4825;

struct EntryHeader {
  # Names an op, its body, and through its parent all ops before it. Stored and sent with its segment table, 16 bytes.
  checksumHigh @0 :UInt64;     # BLAKE3, 16 bytes, over all fields below as stored
  checksumLow @1 :UInt64;
  bodyChecksumHigh @2 :UInt64; # BLAKE3, 16 bytes
  bodyChecksumLow @3 :UInt64;
  parentHigh @4 :UInt64;       # checksum of the header of the op before
  parentLow @5 :UInt64;
  clusterHigh @6 :UInt64;
  clusterLow @7 :UInt64;
  epoch @8 :UInt64;
  view @9 :UInt64;             # in which it was first prepared; stays that when it is prepared again
  op @10 :UInt64;
  commit @11 :UInt64;          # what its primary knew to be committed
  timestamp @12 :UInt64;       # microseconds since 1970-01-01 UTC; never lower than the op's before
  size @13 :UInt32;            # bytes of the body
  kind @14 :UInt16;            # 1 root, 2 no-op, 3 commands, 4 reconfigure
  version @15 :UInt16;         # of this format: 1
}

struct Checkpoint {
  op @0 :UInt64;
  checksumHigh @1 :UInt64;     # of the header of that op
  checksumLow @2 :UInt64;
  rootHigh @3 :UInt64;         # BLAKE3 of the snapshot, 16 bytes
  rootLow @4 :UInt64;
  size @5 :UInt64;             # bytes of the snapshot
}

struct Message {
  # Numbers are below 2^63, except nonces and bits. `checkpoint…` is a Checkpoint in place.
  version @0 :UInt16;          # of this format: 1
  src @1 :UInt32;              # member id of the sender; zero if a client sends or gets it
  epoch @2 :UInt64;            # of the sender; zero if a client sends or gets it
  view @3 :UInt64;             # of the sender; of a client, the highest that it has heard of
  union {
    request :group { clientHigh @4 :UInt64; clientLow @5 :UInt64; session @6 :UInt64; number @7 :UInt64;
      command @8 :Data; }      # kernel.capnp
    reply :group { clientHigh @9 :UInt64; clientLow @10 :UInt64; session @11 :UInt64; number @12 :UInt64;
      op @13 :UInt64; result @14 :Data; }
    evicted :group { clientHigh @15 :UInt64; clientLow @16 :UInt64; session @17 :UInt64; }
    redirect :group { clientHigh @18 :UInt64; clientLow @19 :UInt64; number @20 :UInt64; primary @21 :UInt64; }
    readRequest :group { clientHigh @22 :UInt64; clientLow @23 :UInt64; number @24 :UInt64; streamHigh @25 :UInt64;
      streamLow @26 :UInt64; }
    readReply :group { clientHigh @27 :UInt64; clientLow @28 :UInt64; number @29 :UInt64; op @30 :UInt64;
      known @31 :UInt64; nextOffset @32 :UInt64; hash0 @33 :UInt64; hash1 @34 :UInt64; hash2 @35 :UInt64;
      hash3 @36 :UInt64; }
    prepare :group { commitMax @37 :UInt64; entry @38 :Data; }        # EntryHeader, body
    prepareOk :group { op @39 :UInt64; checksumHigh @40 :UInt64; checksumLow @41 :UInt64; commitMin @42 :UInt64;
      checkpointOp @43 :UInt64; }
    commit :group { commitMax @44 :UInt64; checksumHigh @45 :UInt64; checksumLow @46 :UInt64; stamp @47 :UInt64;
      nonce @48 :UInt64; checkpointOp @49 :UInt64; checkpointChecksumHigh @50 :UInt64;
      checkpointChecksumLow @51 :UInt64; checkpointRootHigh @52 :UInt64; checkpointRootLow @53 :UInt64;
      checkpointSize @54 :UInt64; }
    commitAck :group { nonce @55 :UInt64; }
    exitView @56 :Void;
    joinView :group { logView @57 :UInt64; op @58 :UInt64; commitMin @59 :UInt64; commitMax @60 :UInt64;
      checkpointOp @61 :UInt64; checkpointChecksumHigh @62 :UInt64; checkpointChecksumLow @63 :UInt64;
      checkpointRootHigh @64 :UInt64; checkpointRootLow @65 :UInt64; checkpointSize @66 :UInt64;
      count @67 :UInt64;       # of headers, newest first, from op downwards: bit i of these speaks of op - i
      known @68 :UInt64; present @69 :UInt64; nack @70 :UInt64;
      headers @71 :Data; }     # those that are known
    startView :group { op @72 :UInt64; commitMax @73 :UInt64; checkpointOp @74 :UInt64;
      checkpointChecksumHigh @75 :UInt64; checkpointChecksumLow @76 :UInt64; checkpointRootHigh @77 :UInt64;
      checkpointRootLow @78 :UInt64; checkpointSize @79 :UInt64; nonce @80 :UInt64;
      memberCount @81 :UInt64; member0 @82 :UInt64; member1 @83 :UInt64; member2 @84 :UInt64; member3 @85 :UInt64;
      member4 @86 :UInt64; member5 @87 :UInt64;
      headers @88 :Data; }     # EntryHeaders, newest first
    getView :group { nonce @89 :UInt64; }
    getHeaders :group { opMin @90 :UInt64; opMax @91 :UInt64; }
    headers :group { headers @92 :Data; }
    getPrepare :group { op @93 :UInt64; checksumHigh @94 :UInt64; checksumLow @95 :UInt64; }
    repair :group { entry @96 :Data; }
    getSnapshot :group { rootHigh @97 :UInt64; rootLow @98 :UInt64; offset @99 :UInt64; }
    snapshotChunk :group { rootHigh @100 :UInt64; rootLow @101 :UInt64; offset @102 :UInt64; size @103 :UInt64;
      data @104 :Data; }
    ping :group { logView @105 :UInt64; op @106 :UInt64; commitMax @107 :UInt64; checkpointOp @108 :UInt64;
      checkpointChecksumHigh @109 :UInt64; checkpointChecksumLow @110 :UInt64; checkpointRootHigh @111 :UInt64;
      checkpointRootLow @112 :UInt64; checkpointSize @113 :UInt64; release @114 :UInt64; }
    pong :group { logView @115 :UInt64; op @116 :UInt64; commitMax @117 :UInt64; checkpointOp @118 :UInt64;
      checkpointChecksumHigh @119 :UInt64; checkpointChecksumLow @120 :UInt64; checkpointRootHigh @121 :UInt64;
      checkpointRootLow @122 :UInt64; checkpointSize @123 :UInt64; release @124 :UInt64;
      heardView @125 :UInt64; }
    newEpoch :group { checkpointOp @126 :UInt64; checkpointChecksumHigh @127 :UInt64; checkpointChecksumLow @128 :UInt64;
      checkpointRootHigh @129 :UInt64; checkpointRootLow @130 :UInt64; checkpointSize @131 :UInt64;
      memberCount @181 :UInt64; member0 @182 :UInt64; member1 @183 :UInt64; member2 @184 :UInt64;
      member3 @185 :UInt64; member4 @186 :UInt64; member5 @187 :UInt64;
      headers @132 :Data; }
    reconfigure :group { clientHigh @133 :UInt64; clientLow @134 :UInt64; number @135 :UInt64;
      memberCount @136 :UInt64; member0 @137 :UInt64; member1 @138 :UInt64; member2 @139 :UInt64;
      member3 @140 :UInt64; member4 @141 :UInt64; member5 @142 :UInt64; epoch @180 :UInt64; }
    reconfigured :group { clientHigh @143 :UInt64; clientLow @144 :UInt64; number @145 :UInt64;
      epoch @146 :UInt64; accepted @147 :UInt64; why @148 :Data; }  # why: UTF-8
    fetchRecords :group { clientHigh @149 :UInt64; clientLow @150 :UInt64; number @151 :UInt64;
      streamHigh @152 :UInt64; streamLow @153 :UInt64; firstOffset @154 :UInt64; bytesMax @155 :UInt64;
      hash0 @168 :UInt64; hash1 @169 :UInt64; hash2 @170 :UInt64; hash3 @171 :UInt64;
      wait @172 :UInt64; }   # milliseconds
    fetchedRecords :group { clientHigh @156 :UInt64; clientLow @157 :UInt64; number @158 :UInt64;
      streamHigh @159 :UInt64; streamLow @160 :UInt64; known @161 :UInt64; nextOffset @162 :UInt64;
      records @163 :Data; } # headers (record.capnp) and bodies; each header says how long its body is
    denied :group { clientHigh @164 :UInt64; clientLow @165 :UInt64; number @166 :UInt64; why @167 :Data; } # UTF-8
    askStatus :group { clientHigh @173 :UInt64; clientLow @174 :UInt64; number @175 :UInt64; }
    tellStatus :group { clientHigh @176 :UInt64; clientLow @177 :UInt64; number @178 :UInt64;
      document @179 :Data; }   # JSON, for people and monitors
  }
}
