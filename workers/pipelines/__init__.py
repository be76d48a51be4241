"""The model: loading it, its stages, and the device it runs on. The only package that imports torch."""

import sys

# diffusers and transformers import torchao wherever it is installed, which takes seconds and warns of kernels that no
# plan needs. To them it is not there; `quantize` brings it when a plan asks for it.
sys.modules.setdefault("torchao", None)  # type: ignore[arg-type]  # the import system's own way to say "not there"
