"""What the answer ``accelerator`` decides."""

from typing import Final

DEVICE: Final = "cuda"
"""Where the model runs, unless SERVICE_DEVICE names another device."""
