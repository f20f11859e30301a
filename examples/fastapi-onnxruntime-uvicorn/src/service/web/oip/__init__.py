"""The Open Inference Protocol V2: its endpoints, and tensors to and from bytes."""
