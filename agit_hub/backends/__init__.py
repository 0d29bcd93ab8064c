"""Backends that run a model's networks: PyTorch, torch.compile, ONNX Runtime, OpenVINO."""
