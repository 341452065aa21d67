"""Named tensors in safetensors files, local or on S3; no pickle anywhere."""

from collections.abc import Mapping

import safetensors.torch
from torch import Tensor

from sparkrec.io import storage


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read a safetensors file, local or on S3."""
    return safetensors.torch.load(storage.read_bytes(path))


def write_tensors(path: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, local or on S3, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    storage.write_bytes(path, safetensors.torch.save(plain))
