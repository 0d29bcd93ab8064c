"""Ways to run a model's networks: PyTorch, compiled, ONNX Runtime, OpenVINO."""
