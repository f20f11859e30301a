"""An inference service: one model behind a typed endpoint and the Open Inference Protocol."""
