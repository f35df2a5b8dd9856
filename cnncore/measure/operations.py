"""Multiply-accumulates of the operations that PyTorch really runs, however they were written.

Convolutions and matrix products arrive here alike from modules, functions and TorchScript;
attention arrives as matrix products, if `counting` turned its fused forms off.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# Words in the name of an operation that may multiply and add, but is none of those known here.
PRODUCTS = re.compile(
    r"conv|mm|linear|attention|attn|rnn|lstm|gru|dot|cdist|dist_|fft|linalg|einsum|mv|sparse|"
    r"addr|svd|cholesky|matmul|solve|inverse|transformer|embedding_bag|encoder|householder|ormqr"
)
# Names with such a word that multiply nothing by another's sum.
HARMLESS = re.compile(r"upsample|mvlgamma|_to_sparse|sparse_dim|linalg_vector_norm|comm")
# Ways out of PyTorch: what is computed there cannot be seen.
EXITS = ("numpy", "__array__", "__dlpack__", "data_ptr")


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Counts while it is entered; `unknown` names an operation whose count is not known.

    `activations` are the output elements of convolutions and of products with a weight matrix.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs, self.activations = 0, 0
        self.unknown: str | None = None
        # Products of elements, which a sum would make a contraction; kept, so that no other
        # tensor gets their memory.
        self._products: list[Tensor] = []
        self._wide: set[int] = set()
        self._plain: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: to hide this class from the compiler, torch would import it for seconds."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        name = func._schema.name
        count = COUNTS.get(name)
        if count is None and name.startswith("aten::"):
            # A composite operation, met outside autograd, is counted by its parts.
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        output = func(*args, **kwargs)
        if count is not None:
            self._add(*count(args, output))
            if output_dtype(output).is_complex:
                self.unknown = f"{name} of complex numbers"
        elif not name.startswith(("aten::", "prim::", "prims::")) or (
            PRODUCTS.search(name) and not HARMLESS.search(name)
        ):
            self.unknown = name
        else:
            self._watch_products(name, args, output)
        return output

    def _add(self, macs: int, activations: int) -> None:
        self.macs += macs
        self.activations += activations

    def _watch_products(self, name: str, args: Sequence[Any], output: Any) -> None:
        """Find a contraction by hand: products of elements, added up."""
        if name in ("aten::mul", "aten::mul_"):
            sizes = [part.numel() for part in args[:2] if isinstance(part, Tensor)]
            if len(sizes) == 2 and min(sizes) > 1:
                self._products.append(output)
                (self._wide if output.numel() > max(sizes) else self._plain).add(memory(output))
        elif name in ("aten::sum", "aten::mean") and self._products:
            source = memory(args[0])
            if source in self._wide or (source in self._plain and name == "aten::sum"):
                self.unknown = "a sum of products"


class _Exits(TorchFunctionMode):
    """Notes a tensor that leaves PyTorch."""

    def __init__(self, counter: OperationCounter) -> None:
        super().__init__()
        self._counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in EXITS:
            self._counter.unknown = f"Tensor.{func.__name__}"
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def counting() -> Iterator[OperationCounter]:
    """Count what runs in the block; attention is not fused and nothing is compiled there."""
    counter = OperationCounter()
    mha = torch.backends.mha
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    # Setting a stance imports the compiler for seconds; where nothing did, nothing is compiled.
    compiles = "torch._dynamo" in sys.modules
    stance = torch.compiler.set_stance("force_eager") if compiles else contextlib.nullcontext()
    try:
        with stance, sdpa_kernel(SDPBackend.MATH), _Exits(counter), counter:
            yield counter
    finally:
        mha.set_fastpath_enabled(fast)


def memory(tensor: Tensor) -> int:
    """Return a number that tensors of one storage share; on `meta` they have no address."""
    return int(tensor.untyped_storage()._cdata)


def output_dtype(output: Any) -> torch.dtype:
    """Return the type of an operation's first output."""
    first = output if isinstance(output, Tensor) else output[0]
    assert isinstance(first, Tensor)
    return first.dtype


def _convolution(args: Sequence[Any], output: Tensor) -> tuple[int, int]:
    image, weight, transposed = args[0], args[1], args[6]
    # Each element takes part in one multiplication per weight of its filter; a transposed
    # convolution applies the filter to its input, the others to their output.
    elements = image if transposed else output
    return elements.numel() * prod(weight.shape[1:]), output.numel()


def _matrices(first: int) -> Callable[[Sequence[Any], Tensor], tuple[int, int]]:
    """Return the count of a product of matrices, or of batches of them, from argument `first`."""

    def count(args: Sequence[Any], output: Tensor) -> tuple[int, int]:
        left, right = args[first], args[first + 1]
        macs = left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
        # In a batch one matrix may be a weight, repeated; otherwise both follow from the image.
        weight = left.dim() < 3 or 0 in (left.stride(0), right.stride(0))
        return macs, output.numel() if weight and right.dim() > 1 else 0

    return count


def _dot(args: Sequence[Any], output: Tensor) -> tuple[int, int]:
    return args[0].numel(), 0


def _rnn_layer(args: Sequence[Any], output: Any) -> tuple[int, int]:
    """Count one layer and direction of an LSTM on a CPU; its input is `(steps, batch, size)`."""
    steps = args[0].shape[0] * args[0].shape[1]
    weights = args[1:3]
    return (
        steps * sum(weight.numel() for weight in weights),
        steps * sum(weight.shape[0] for weight in weights),
    )


COUNTS: Mapping[str, Callable[[Sequence[Any], Any], tuple[int, int]]] = {
    "aten::convolution": _convolution,
    "aten::mm": _matrices(0),
    "aten::bmm": _matrices(0),
    "aten::mv": _matrices(0),
    "aten::addmm": _matrices(1),
    "aten::addmm_": _matrices(1),
    "aten::baddbmm": _matrices(1),
    "aten::baddbmm_": _matrices(1),
    "aten::addmv": _matrices(1),
    "aten::dot": _dot,
    "aten::vdot": _dot,
    "aten::mkldnn_rnn_layer": _rnn_layer,
}
