"""Refuses a device that the model would not really use."""

from typing import Final

from service.core.manifest import ArtifactError

_CUDA: Final = ("cuda", "tensorrt")
_REMEDY: Final = (
    "look whether nvidia-smi shows the GPU, its driver is new enough for the installed CUDA, a "
    "container has '--gpus all', and the libraries are CUDA builds; SERVICE_DEVICE=cpu uses the CPU"
)


def unavailable(device: str, cause: str) -> ArtifactError:
    """Return the error for a device that cannot be used, with what to do if it is a GPU."""
    remedy = f"; {_REMEDY}" if device.lower().startswith(_CUDA) else ""
    return ArtifactError(f"the device '{device}' is not available, {cause}{remedy}")


def not_used(device: str, how: str) -> ArtifactError:
    """Return the error for a device that is there, and that the model would not run on.

    ``how``: what the device has not, as "lacks 'weight', which is on cpu".
    """
    return ArtifactError(
        f"the model would not run on the device '{device}', which {how}; SERVICE_DEVICE=cpu runs it"
    )
