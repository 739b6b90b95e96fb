"""The shell around a replica: what a node is in the real world.

===============  ====================================================================================================
``aligned``      files that are read and written past the page cache
``disk``         :class:`Disk`: a member's storage in one folder
``disk_thread``  the same, driven by a thread of its own
===============  ====================================================================================================
"""
