"""How long a frame takes from its acquisition to the last sink: `edge-codec bench latency`.

Frames of a real exam are pushed into the live pipeline that scanners feed, at instants that are
fixed before the first of them (open loop), and every latency counts from the instant when the frame
was due. A stall therefore shows in every frame that had to wait for it, not in one.
"""
