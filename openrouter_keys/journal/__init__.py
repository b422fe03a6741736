"""The journal: what is known durably of every key. No network.

`journal` is its face; `schema` draws its states, `entries` and `rotations` are its rows, `writer`
is the thread that writes, `files`, `folders`, `copies` and `logs` keep its files whole and private.
"""
