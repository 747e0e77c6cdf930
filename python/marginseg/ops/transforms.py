"""How torch's transforms meet an op: derivatives backwards and forwards, and vmap.

:func:`torch.library.register_autograd` knows neither forward derivatives nor ``torch.func``. So an
op's kernel for torch's autograd is made here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd import forward_ad

from marginseg.ops.library import library
from marginseg.values import transformed

_functorch: Any = import_module("torch._functorch.autograd_function")

#: The arguments of an op, or something for each of them; a ``Tensor[]`` is a list.
Arguments: TypeAlias = Sequence[Any]


def differentiable(
    name: str,
    *,
    backward: Callable[..., tuple[Any, ...]],
    remember: Callable[[Any, tuple[Any, ...], Any], None],
    tangent: Callable[[Arguments, Arguments], Any],
) -> None:
    """Register the derivatives of an op.

    Args:
        name: Of the op.
        backward: ``backward(ctx, *gradients)`` returns a gradient, or ``None``, for each argument.
        remember: ``remember(ctx, arguments, output)`` keeps in ``ctx`` what ``backward`` needs.
        tangent: ``tangent(arguments, tangents)`` returns the output's tangent. Arguments that are
            held fixed have the tangent ``None``, and one of them at least has one.

    """
    op = getattr(torch.ops.marginseg, name).default

    # Both return what is differentiable by the transforms around the one that is at work: the
    # modes that autograd.Function turns off for its own sake would be off for them too.
    def below(keyset: Any, arguments: Arguments) -> Any:
        with (
            torch.enable_grad(),
            forward_ad._set_fwd_grad_enabled(True),
            torch._C._AutoDispatchBelowAutograd(),
        ):
            return op.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, keyset: Any, kept: Arguments, lengths: list[int | None], *flat: Any
        ) -> Any:
            output = below(keyset, _nested(flat, lengths))
            remember(ctx, tuple(kept), output)
            return output

        @staticmethod
        def backward(ctx: Any, *gradients: Any) -> Any:
            flat, _ = _flat(backward(ctx, *gradients))
            return None, None, None, *flat

    Recorded.__name__ = Recorded.__qualname__ = name
    apply: Callable[..., Any] = Recorded.apply

    def recorded(keyset: Any, arguments: Arguments, kept: Arguments) -> Any:
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*arguments)):
            with torch._C._AutoDispatchBelowAutograd():
                return op.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)
        flat, lengths = _flat(arguments)
        if not transformed():
            return apply(keyset, kept, lengths, *flat)
        # This kernel is called for one level of torch.func's transforms already. The common
        # `apply` would begin with their stack again.
        with _functorch.enable_single_level_autograd_function():
            single_level: Any = super(torch.autograd.Function, Recorded)
            return single_level.apply(keyset, kept, lengths, *flat)

    def kernel(keyset: Any, *arguments: Any) -> Any:
        if forward_ad._current_level >= 0:
            primals, tangents = _unpacked(arguments)
            if any(map(_moves, tangents)):
                # What is kept has its tangents still: they move the gradient that is made of it.
                output = recorded(keyset, primals, arguments)
                return _dual(output, tangent(primals, tangents))
        return recorded(keyset, arguments, arguments)

    library.impl(name, kernel, "Autograd", with_keyset=True)


def not_differentiable(name: str) -> None:
    """Have an op say that it has no derivative, where one is asked for."""
    message = f"{name}: not differentiable; detach what it is called with"

    def refuse(*_: Any) -> Any:
        raise NotImplementedError(message)

    differentiable(name, backward=refuse, remember=lambda *_: None, tangent=refuse)


def batched(name: str, rule: Callable[..., tuple[Any, Any]]) -> None:
    """Register ``rule(info, in_dims, *arguments)``, :func:`torch.vmap`'s way to call an op."""
    torch.library.register_vmap(f"marginseg::{name}", rule, lib=library)


def leading_batch(name: str) -> Callable[..., tuple[Any, Any]]:
    """Return the rule of an op of one tensor, whose leading axes are a batch."""
    op = getattr(torch.ops.marginseg, name)

    def rule(info: Any, in_dims: Arguments, values: Tensor, *options: Any) -> tuple[Any, Any]:
        output = op(values.movedim(in_dims[0], 0), *options)
        return output, 0 if isinstance(output, Tensor) else (0,) * len(output)

    return rule


def one_by_one(name: str, info: Any, in_dims: Arguments, arguments: Arguments) -> tuple[Any, Any]:
    """Call an op of one output for each entry of the batch, where no kernel takes them together."""
    op = getattr(torch.ops.marginseg, name)
    flat, lengths = _flat(arguments)
    dims: list[int | None] = []
    for dim, length in zip(in_dims, lengths, strict=True):
        # Of a list of numbers the dims are a list too, of None.
        dims.extend(dim if length is not None else [None if isinstance(dim, list) else dim])
    outputs = [
        op(
            *_nested(
                [
                    value if dim is None else value.select(dim, entry)
                    for value, dim in zip(flat, dims, strict=True)
                ],
                lengths,
            )
        )
        for entry in range(info.batch_size)
    ]
    if isinstance(outputs[0], Tensor):
        return torch.stack(outputs), 0
    results = tuple(torch.stack(parts) for parts in zip(*outputs, strict=True))
    return results, (0,) * len(results)


def in_front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Return a tensor with the batch as its first axis, expanded where it has none."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def leading_size(tensor: Tensor, trailing: int) -> int:
    """Return how many entries the axes before the last ones have."""
    return math.prod(tensor.shape[: tensor.ndim - trailing])


def _flat(arguments: Arguments) -> tuple[list[Any], list[int | None]]:
    """Return the arguments with those of a list one by one, and each list's length."""
    flat: list[Any] = []
    lengths: list[int | None] = []
    for argument in arguments:
        listed = isinstance(argument, list) and all(
            entry is None or isinstance(entry, Tensor) for entry in argument
        )
        flat.extend(argument if listed else [argument])
        lengths.append(len(argument) if listed else None)
    return flat, lengths


def _nested(flat: Sequence[Any], lengths: Sequence[int | None]) -> list[Any]:
    """Undo :func:`_flat`."""
    entries = iter(flat)
    return [
        next(entries) if length is None else [next(entries) for _ in range(length)]
        for length in lengths
    ]


def _moves(tangent: Any) -> bool:
    return any(map(_moves, tangent)) if isinstance(tangent, list) else tangent is not None


def _unpacked(arguments: Arguments) -> tuple[list[Any], list[Any]]:
    """Return the primals and the tangents of an op's arguments."""
    flat, lengths = _flat(arguments)
    duals = [
        forward_ad.unpack_dual(value) if isinstance(value, Tensor) else (value, None)
        for value in flat
    ]
    primals, tangents = zip(*duals, strict=True)
    return _nested(primals, lengths), _nested(tangents, lengths)


def _dual(output: Any, tangent: Any) -> Any:
    """Return the output with its tangent; what is no floating number has none."""
    if isinstance(output, tuple):
        return tuple(map(_dual, output, tangent))
    return output if tangent is None else forward_ad.make_dual(output, tangent)
