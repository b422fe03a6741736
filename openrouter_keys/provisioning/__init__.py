"""Bulk provisioning: many keys at once, none twice, and no secret lost.

`start` takes a caller's arguments and puts a run together. `run` goes in rounds: `queue` says what
is next, `creator` sends a create, `delivery` hands a key over, `reconciler` reconciles what is in
doubt. The folder `journal` is what is known durably; `pacing` says when a create may go.
"""
