"""What a primitive becomes in an XLA program: a call of the host, or the operations of a formula."""

import functools
import inspect

import jax
import numpy as np
from jax.interpreters import mlir
from jax.interpreters.mlir import ir

from fastlogits import config
from fastlogits._options import LossOptions
from fastlogits.jax import _checks, _host

try:
    from fastlogits.jax import _handler
except ImportError:  # installed without a C compiler
    _handler = None
else:
    jax.ffi.register_ffi_target("fastlogits", _handler.capsule(_host.call), platform="cpu")

# Kept lowerings would be lifted out of the program that `_can_be_overwritten` looks at; JAX once kept none.
_IN_PLACE = {"cacheable": False} if "cacheable" in inspect.signature(mlir.register_lowering).parameters else {}


def register(primitive, rule):
    def refuse(context, *operands, **params):
        raise _checks.not_on_cpu(primitive.name, context.module_context.platforms)

    mlir.register_lowering(primitive, refuse)
    mlir.register_lowering(primitive, rule, platform="cpu", **_IN_PLACE)


def by_formula(formula):
    return mlir.lower_fun(formula, multiple_results=False)


def by_kernel(name, overwrites=None):
    """A call of `_host`'s function `name`, whose result may take the place of the operand number `overwrites`.

    Of one that is counted from the end, it takes the place in any case.
    """

    def through_handler(context, *operands, **params):
        in_place = overwrites is not None and (overwrites < 0 or _can_be_overwritten(operands[overwrites]))
        aliases = {overwrites % len(operands): 0} if in_place else None
        rule = jax.ffi.ffi_lowering("fastlogits", operand_output_aliases=aliases)
        return rule(context, *operands, call=_host.described(name, params), plan=plan(name, params))

    def through_callback(context, *operands, **params):
        (result,) = context.avals_out
        call = functools.partial(_host.call_back, _host.described(name, params), result.shape, result.dtype)
        shape = jax.ShapeDtypeStruct(result.shape, result.dtype)
        rule = by_formula(lambda *operands: jax.pure_callback(call, shape, *operands))
        return rule(context, *operands)

    return through_handler if _handler else through_callback


# Bytes of the number that no gradient is for
_NOTHING = np.frombuffer(np.float64(np.nan).tobytes(), np.uint8)


def with_gradient(name):
    """The call of `name`_with_grad; of `name` alone where the gradient may overwrite the logits later."""
    alone, both = by_kernel(name), by_kernel(f"{name}_with_grad")

    def rule(context, x, *others, **params):
        if _handler and plan(name, params).size and not _can_be_overwritten(x) and not looks_for_nan():
            return both(context, x, *others, **params)
        losses = alone(context.replace(avals_out=context.avals_out[:1]), x, *others, **params)
        return [*losses, x, mlir.ir_constant(_NOTHING)]

    return rule


def looks_for_nan():
    """Whether JAX looks at all results for NaN or infinity: where nothing is guessed, the gradient is just memory."""
    return jax.config.jax_debug_nans or jax.config.jax_debug_infs


def by_kept_gradient(name):
    """The gradient that was kept, in its place, if it is for what arrives; else that of `name`_backward."""
    alone, kept = by_kernel(f"{name}_backward", overwrites=1), by_kernel(f"{name}_kept", overwrites=-2)

    def rule(context, g, x, *others, **params):
        *others, grad, expected = others
        if _handler and plan(name, params).size and grad != x:
            return kept(context, g, x, *others, grad, expected, **params)
        # Of the losses the gradient needs nothing; but it may overwrite x, and so it waits for them.
        return alone(context.replace(avals_in=context.avals_in[:-2]), g, x, *others, **params)

    return rule


config.ROUTES["jax"] = lambda: _handler is not None and config.reaches_core()


def plan(name, params):
    """The call for the C core, as `Plan` of `_handler.pyx` has it; empty where it has to go through Python."""
    settings = dict(params["settings"])
    if not config.reaches_core(settings.get("backend")) or name not in _handler.OPERATIONS:
        return np.zeros(0, np.int64)
    threads = settings.get("num_threads") or config.environment_threads() or 0
    options = params.get("options", LossOptions(params.get("axis")))
    integers = _handler.OPERATIONS.index(name), options.axis, threads, options.ignore_index
    numbers = options.label_smoothing, options.z_loss, options.softcap or 0.0, options.logit_scale
    return np.array([*map(int, integers), *np.float64(numbers).view(np.int64).tolist()], np.int64)


def _can_be_overwritten(value):
    """Whether XLA need not copy `value` first: nothing but our kernels reads it, nor can the caller see it again.

    Of what follows in the program nothing is known; should something read `value` there, XLA copies it, no harm done.
    """
    while True:
        if any(use.owner.name not in ("stablehlo.reshape", "stablehlo.custom_call") for use in value.uses):
            return False
        if isinstance(value, ir.BlockArgument):
            return _is_donated(value)
        if value.owner.name != "stablehlo.reshape":
            return True
        (value,) = value.owner.operands


def _is_donated(argument):
    function = argument.owner.owner
    if "arg_attrs" not in function.attributes:
        return False
    marks = function.attributes["arg_attrs"][argument.arg_number]
    return "jax.buffer_donor" in marks or "tf.aliasing_output" in marks
