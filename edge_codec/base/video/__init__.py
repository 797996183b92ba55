"""The `video` base layer: a standard video encoder, whose frames every player can show.

What a decoder makes of HEVC or AV1 is laid down to the bit, so that such a base layer is the same
on every machine. It is the practical fallback, and the yardstick of our own models.

`formats` is what a stream says and what its payloads must be, `levels` how samples stand in them,
`encoders` which encoder makes them and with which settings, `libav` the only way to PyAV, `model`
the base layer made of these, `player` a file for players.
"""
