"""Viewstamped Replication: one replica of the log as a state machine, without clocks, sockets or disks.

===================  ==================================================================================================
``quorums``          how many members it takes, tabulated
``entry``            an op as bytes: header and body
``messages``         what members and clients say to each other
``kinds``            how each kind of message is laid out
``wire``             messages as bytes, authenticated
``effects``          what goes into a replica and comes out; the driver's contract
``superblock``       what a member knows of itself, durably
``recovery``         what a journal's bytes mean after a crash
``choosing``         which log a new view gets
``core``             what all parts of a replica share: its log in memory, its place among the members, its timers
``storing``          what it makes durable, in which order, and what follows: applying, checkpoints
``normal``           ordering, acknowledging, committing; reads
``repair``           what is missing or rotten here, from others
``view_change``      another primary
``reconfiguration``  other members
``replica``          :class:`Replica`: all of it, as a state machine
===================  ==================================================================================================

A node drives it with real peers, :mod:`veritydb.simulation` with imaginary ones: the same code, so what the simulation
proves holds in production. ``docs/internals/vsr.md`` has the glossary, the messages, and the protocols.
"""
