"""The `dwt-cal` base layer: a video codec for cine in integers, encoder and decoder native.

Frames of 12 bits in quadtrees of blocks: predicted from kept frames by motion, merged with a
neighbor's prediction, or from what surrounds them; an integer transform of what is left; trellis
quantization; an adaptive binary arithmetic coder. `docs/bitstream.md` has the syntax,
`docs/decisions/0013-hybrid.md` the reasons.
"""
