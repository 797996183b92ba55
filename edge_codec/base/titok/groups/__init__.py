"""Whole cines and exams in 32 tokens: what `--model titok --tokens-per cine|exam` writes.

A group of frames, all phases of a slice or all frames of an exam, is a few images: its mean over
the cycle and the first harmonic of its motion; of an exam these for four cosines along the slices.
Each token stands for one of 8 by 4 stretches of all these images. It adds its code's own picture to
that stretch and to the eight around it, and the encoder chooses the tokens together. All is linear
and fitted in closed form by `edge_codec.training.titok.groups`; docs/bitstream.md section 15.4 is
the specification.
"""
