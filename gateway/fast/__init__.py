"""Chat requests to plain-HTTP experts of the same wire, served by callbacks inside the server.

In the order in which a request meets them: `protocol` offers it to the `lane`; `plans` knows most
of it already, and a `quick` one needs no more than that. Any other is an `exchange` with a `relay`
for each call, into which a quick one is `unfolding` as soon as it is unlike the others. `hold`,
`seat` and `clock` are what these share. How bytes are read and written is apart and pure:
`plain_body`, `plain_answer`, `whole`, `streams` (with `mould`, `deltas` and `rendered`), `reply`,
`heads` and `naming`.
"""
