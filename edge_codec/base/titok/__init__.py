"""The `titok` base layer: a frame as 32 tokens of 12 bits, for preview, triage and retrieval.

The network is `edge_codec.nn.titok`. Tokens are chosen and shown by floats, which differ between
machines in their last bits: what is shown is a preview and nothing is built on it. The tokens
themselves are coded in integers and come back exactly, and `tokens_of` reads them without the
network. docs/bitstream.md section 15 is the specification.
"""

from edge_codec.base.titok.reading import Codebook, group_tokens_of, load_codebook, tokens_of

__all__ = ["Codebook", "group_tokens_of", "load_codebook", "tokens_of"]
