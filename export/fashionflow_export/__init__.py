"""Model folder → engine folder: graphs of all networks as ONNX files and TensorRT engines, verified against PyTorch."""
