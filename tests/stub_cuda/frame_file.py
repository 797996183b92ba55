"""Builds the file of a small model's frames for sm_90: `frame_file.py FOLDER`."""

import sys
from pathlib import Path

from frame_samples import network, onnx_files, token_model

from edge_codec.export.gpu_frame import build_frame_file

if __name__ == "__main__":
    data = build_frame_file(*onnx_files(), network().codebook, token_model(), 90)
    (Path(sys.argv[1]) / "frame.engine").write_bytes(data)
