"""Bulk provisioning: many keys at once, none twice, and no secret lost.

`settings` checks what a caller sets, `context` holds what the parts of a run share. `run` goes in
rounds: `queue` says what is next, `creator` sends a create, `delivery` hands a key over,
`reconciler` settles what is in doubt. `rate_limiter` says when a create may go, `stop` whether the
run goes on. The folder `journal` is what is known durably.
"""
