"""Bytes to messages and back, without I/O: one module for each dialect (floor 2).

`port` is the vocabulary between gateway and host, `queries` says which actor a
client means, `values` carries any value as msgpack, `encodings` are the codecs
of the wire and `v0` is the dialect of the Rivet documentation.
"""
