"""Hosts that share nothing but a folder for runs, on one machine, and a Ray cluster over them.

    python -m tests.hosts            # three hosts with Ray, to be looked at by hand, until Ctrl-C

A host has network, host name, process ids, /tmp and /dev/shm of its own (Linux namespaces); what is installed
is there on each of them, read-only, as if they were made from one image. See `namespaces` and `ray_nodes`.
"""
