"""Export of model folders to engine folders: ONNX and TensorRT, verified against PyTorch."""
