"""Rate-distortion: our codec against image, volume and video codecs, on any volumes, in one run.

`case` holds the voxels, `trial` says what a measurement is, `ours` and `peers_*` make the trials,
`codecs` names them, `measure` verifies and computes the figures, `run` goes through all, and
`table`, `difference`, `plot`, `folder` show the results. docs/benchmark.md gives every definition.
"""
