"""Networks in torch: what is trained here is exported to integer ONNX by `edge_codec.export`."""
