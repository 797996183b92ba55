"""Training of the networks in `edge_codec.nn`; needs the extra `train`."""
