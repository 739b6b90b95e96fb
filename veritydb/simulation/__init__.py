"""Whole groups in an imaginary world: one seed decides what happens, and every promise is checked.

==================  =================================================================================================
``scenario``        what a seed decides before anything runs
``world``           virtual time, processes, what befalls them
``network``         delays, losses, cuts
``storage``         disks, and the atlas of where a fault may be
``clients``         who asks, and what they were answered
``checkers``        what must never happen, looked for after every step
``linearizability`` could one machine have answered so? ``streams`` is the machine
``run``             chaos, then a healthy core, then the verdict
``campaign``        many seeds
``shrinking``       from a failing seed to a short story
``telling``         a run as text; ``diagram``: as a picture
``bugs``            what is wrong in copies of the protocol, which ``code`` loads
``planted``         whether they are found
``marks``           rare branches, and whether seeds get there
``exploring``       every order of everything, within a small scope
``chance``          all randomness
==================  =================================================================================================

It drives the real :class:`veritydb.vsr.replica.Replica`. ``docs/internals/simulation.md`` says how, and what it found.
"""
