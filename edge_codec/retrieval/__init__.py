"""Finding frames, slices and exams by the tokens of `titok` streams, and naming disease groups.

No pixel is decoded and no network runs: tokens are read from streams (`exam_tokens`), become
numbers that tell what was seen so far (`listener`), short descriptors of frames and slices
(`descriptor`), and are compared (`ranking`). A folder's descriptors are kept in a file
(`stream_index`). `heart_sizes` reads the sizes of the heart's parts from the same numbers, and
`disease_head` names one of ACDC's five groups from those. NumPy is all that it takes.
"""
