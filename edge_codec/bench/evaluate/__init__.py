"""Clinical evaluation: what a codec does to segmentation, volumes and motion of a heart.

`expert` reads labels and phases, `exam` holds a case with the labels of original frames, `choice`
says which codec at which setting, `judge` compares, `summary` gathers patients, `records`,
`table`, `plot`, `pages` and `folder` show the results, `run` goes through all. docs/evaluate.md
gives every definition. Cases, codecs and trials are those of `edge_codec.bench.rd`.
"""
