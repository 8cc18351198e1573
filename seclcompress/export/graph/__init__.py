"""Networks as graphs of ONNX operations."""
