"""The journal: what is known durably of every key. No network.

`Journal` in `journal` is its face. `schema` draws the states, `transitions` is the table of how
they change, `entries` and `rotations` read the rows. Behind the face, `writer` is the thread that
owns the connection, `sqlite` opens the file, and `files`, `folders`, `copies` and `logs` keep it
whole and private: this is where another engine goes.
"""
