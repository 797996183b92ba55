"""Training of TiTok-MRI: `python -m edge_codec.training.titok --config C --data D --out O`.

`config` reads a stage, `cines` the data, `streams` turns cines into batches in which every element
is a cine that goes on from step to step, `conditions` what the network is told beside the frame,
`judge` is the frozen segmentation network that several terms of `losses` look through. `coding` is
what stages 1 to 3 do in a step and `masking` what stage 0 does; `trainer` runs either with
checkpoints, `validation` measures. docs/titok_training.md explains the stages.
"""
