"""Functions of the host as JAX primitives: jit, vmap, and derivatives of any order, forward and reverse.

A class axis counts from the end, so that `vmap` puts its axis in front and leaves all else as it is. The derivative
of an operation is a linear map and its transpose, primitives named `_jvp` and `_vjp`; so the transpose, of which
training consists, is a kernel again. Each has a plain formula, which JAX differentiates further.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fastlogits.jax import _lowering


def operation(name, result, residuals, jvp, formula=None):
    """The primitive `name`, whose derivative along its first operand is `jvp(tangent, *residuals(operands, value))`.

    `result(*operands, **params)` is the type of its value. Derivatives along other operands are those of `formula`.
    """

    def derivative(primitive, primals, tangents, **params):
        value = primitive.bind(*primals, **params)
        return value, _tangent(formula, jvp, lambda: residuals(primals, value), primals, tangents, params)

    return _primitive(name, result, _lowering.by_kernel(name), derivative)


def operation_with_gradient(name, result, jvp, formula):
    """The primitive `name`, beside which a gradient is kept where a derivative is asked for.

    Then it is the primitive `name`_with_grad: its value, the gradient for what is expected to arrive at the value, and
    that number's bytes. `jvp(tangent, *operands, *values)` knows what to do if something else arrives.
    """

    def types(x, *others, **params):
        return [result(x, *others, **params), like(0)(x), _bytes(x)]

    def derivative(primitive, primals, tangents, **params):
        many = primitive is both
        if many or type(tangents[0]) is not ad.Zero:
            values = both.bind(*primals, **params)
        else:
            values = [primitive.bind(*primals, **params)]
        tangent = _tangent(formula, jvp, lambda: (*primals, *values), primals, tangents, params)
        if not many:
            return values[0], tangent
        # What is kept is no function of anything: the kernel of the gradient has a derivative of its own.
        return values, [tangent, *(ad.Zero(jax.typeof(kept).to_tangent_aval()) for kept in values[1:])]

    alone = _primitive(name, result, _lowering.by_kernel(name), derivative)
    both = _primitive(f"{name}_with_grad", types, _lowering.with_gradient(name), derivative, mapped=(0, 0, None))
    return alone


def _tangent(formula, jvp, residuals, primals, tangents, params):
    (x, *others), (tangent, *other_tangents) = primals, tangents
    terms = _derivatives(lambda *o: formula(x, *o, **params), others, other_tangents)
    if type(tangent) is not ad.Zero:
        terms.append(jvp.bind(tangent, *residuals(), **params))
    return sum(terms[1:], start=terms[0])


def linear_pair(name, formulas, results, lowering):
    """The primitives `name`_jvp, by its formula, and `name`_vjp, by `lowering`: each the other's transpose."""
    jvp = _linear(f"{name}_jvp", formulas[0], results[0], _lowering.by_formula(formulas[0]))
    vjp = _linear(f"{name}_vjp", formulas[1], results[1], lowering)
    ad.primitive_transposes[jvp] = functools.partial(_transposed, vjp)
    ad.primitive_transposes[vjp] = functools.partial(_transposed, jvp)
    return jvp, vjp


def _linear(name, formula, result, lowering):
    """A primitive that is linear in its first operand."""

    def derivative(primitive, primals, tangents, **params):
        (first, *residuals), (tangent, *others) = primals, tangents
        terms = _derivatives(lambda *r: formula(first, *r, **params), residuals, others)
        if type(tangent) is not ad.Zero:
            terms.append(primitive.bind(tangent, *residuals, **params))
        return primitive.bind(*primals, **params), sum(terms[1:], start=terms[0])

    return _primitive(name, result, lowering, derivative)


def _transposed(primitive, cotangent, first, *residuals, **params):
    return [primitive.bind(cotangent, *residuals, **params), *(None for _ in residuals)]


def _derivatives(function, primals, tangents):
    """The derivative along all tangents that are not symbolic zeros, in a list; an empty one where there are none."""
    live = [i for i, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]
    if not live:
        return []

    def of_live(*values):
        every = list(primals)
        for i, value in zip(live, values, strict=True):
            every[i] = value
        return function(*every)

    return [jax.jvp(of_live, [primals[i] for i in live], [tangents[i] for i in live])[1]]


def _primitive(name, result, lowering, derivative, mapped=0):
    """`mapped`: where `vmap` finds its axis in the result, or in each of several."""
    primitive = Primitive(f"fastlogits_{name}")
    primitive.multiple_results = mapped != 0
    primitive.def_impl(functools.partial(_alone, primitive))
    primitive.def_abstract_eval(result)
    batching.primitive_batchers[primitive] = functools.partial(_batched, primitive, mapped)
    ad.primitive_jvps[primitive] = functools.partial(derivative, primitive)
    _lowering.register(primitive, lowering)
    return primitive


def _alone(primitive, *operands, **params):
    run = _jitted(primitive, tuple(params.items()), _lowering.looks_for_nan())
    if not jax.config.jax_disable_jit:
        return run(*operands)
    # Without jit, `bind` would come back here, for ever: an operation is one call of the host, compiled or not at all.
    with jax.disable_jit(False):
        return run(*operands)


@functools.cache
def _jitted(primitive, params, looks_for_nan):
    """A function for each way in which the primitive may be lowered."""
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


def _batched(primitive, mapped, operands, axes, **params):
    (size,) = {x.shape[axis] for x, axis in zip(operands, axes, strict=True) if axis is not None}
    operands = [
        jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(operands, axes, strict=True)
    ]
    return primitive.bind(*operands, **params), mapped


# Types of results


def like(position):
    """The type of the operand at `position`."""
    return lambda *operands, **params: operands[position].update(weak_type=False)


@functools.cache
def _bytes(x):
    return jax.make_jaxpr(lambda x: jnp.zeros(8, np.uint8) + jnp.sum(x).astype(np.uint8))(x).out_avals[0]


@functools.cache
def one_per_row(x, axis, dtype):
    # By JAX's own rule, which also knows how the result is sharded.
    return jax.make_jaxpr(lambda x: jnp.sum(x, axis).astype(dtype))(x).out_avals[0]
