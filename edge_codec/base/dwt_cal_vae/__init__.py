"""The `dwt-cal-vae` base layer: wavelet, cross-attention and variational autoencoder, in integers.

The float model is `edge_codec.nn.dwt_cal`; `edge_codec.export.dwt_cal` turns its weights into those
read here. Nothing of the decoder's way is a float: convolutions are sums of products of 16-bit
integers that provably fit 32 bits, everything between them is fixed point. docs/bitstream.md
section 14 is the specification.
"""
