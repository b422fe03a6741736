"""Bulk provisioning: many keys at once, none twice, and no secret lost.

`engine` takes a caller's arguments and puts a run together. `run` goes in rounds: `jobs` says what
is next, `making` sends a create, `delivery` hands a key over, `lookback` reconciles what is in
doubt. `journal` is what is known durably (`schema` draws it), `pacing` says when a create may go.
"""
