"""What the answer ``accelerator`` decides."""

from typing import Final

DEVICE: Final = "cpu"
"""Where the model runs, unless SERVICE_DEVICE names another device."""
