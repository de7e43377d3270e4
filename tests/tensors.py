"""What the frameworks have in common, spelled out for each: a new adapter is one class and one entry here."""

import numpy as np
from conftest import need
from tolerance import BFLOAT16


class Torch:
    compiles_gradients = False  # of functions that differentiate within; see test_torch_compile.py
    label_error = IndexError

    def __init__(self):
        self.torch, self.adapter = need("torch"), need("fastlogits.torch")

    def tensor(self, array):
        if array.dtype == BFLOAT16:
            return self.torch.from_numpy(array.view(np.uint16).copy()).view(self.torch.bfloat16)
        return self.torch.from_numpy(array.copy())

    def array(self, tensor):
        tensor = tensor.detach()
        if tensor.dtype is self.torch.bfloat16:
            return tensor.view(self.torch.uint16).numpy().view(BFLOAT16)
        return tensor.numpy()

    def value_and_gradient(self, function, x, again=False):
        """`function` of a floating-point tensor, summed, and its gradient; to be differentiated `again`."""
        x = x if x.requires_grad else x.detach().requires_grad_()
        value = function(x).sum()
        if not value.requires_grad:
            return value, self.torch.zeros_like(x)
        options = {"create_graph": again, "allow_unused": True, "materialize_grads": True}
        return value, *self.torch.autograd.grad(value, x, **options)

    def where_finite(self, tensor):
        return tensor.nan_to_num(neginf=0.0)

    def compiled(self, function):
        return self.torch.compile(function, backend="aot_eager")

    def row_losses(self, logits, labels):
        return self.adapter.cross_entropy(logits, labels, reduction="none")

    def logsumexp(self, logits, axis):
        return self.adapter.logsumexp(logits, axis)


class TensorFlow:
    compiles_gradients = True

    def __init__(self):
        self.tf, self.adapter = need("tensorflow"), need("fastlogits.tensorflow")
        self.label_error = self.tf.errors.InvalidArgumentError

    def tensor(self, array):
        return self.tf.constant(array)

    def array(self, tensor):
        return tensor.numpy()

    def value_and_gradient(self, function, x, again=False):
        with self.tf.GradientTape() as tape:
            tape.watch(x)
            value = self.tf.reduce_sum(function(x))
        return value, tape.gradient(value, x, unconnected_gradients="zero")

    def where_finite(self, tensor):
        return self.tf.where(self.tf.math.is_finite(tensor), tensor, self.tf.zeros_like(tensor))

    def compiled(self, function):
        return self.tf.function(function)

    def row_losses(self, logits, labels):
        if labels.dtype.is_floating:
            return self.adapter.softmax_cross_entropy_with_logits(labels, logits)
        return self.adapter.sparse_softmax_cross_entropy_with_logits(labels, logits)

    def logsumexp(self, logits, axis):
        return self.adapter.reduce_logsumexp(logits, axis)


class Jax:
    compiles_gradients = True
    # ValueError once JAX has a fast path to the compiled function, jax.errors.JaxRuntimeError before
    label_error = (ValueError, RuntimeError)

    def __init__(self):
        self.jax, self.adapter = need("jax"), need("fastlogits.jax")
        self.jax.config.update("jax_enable_x64", True)

    def tensor(self, array):
        return self.jax.numpy.array(array)

    def array(self, tensor):
        return np.asarray(tensor)

    def value_and_gradient(self, function, x, again=False):
        return self.jax.value_and_grad(lambda x: function(x).sum())(x)

    def where_finite(self, tensor):
        return self.jax.numpy.where(self.jax.numpy.isfinite(tensor), tensor, 0)

    def compiled(self, function):
        return self.jax.jit(function)

    def row_losses(self, logits, labels):
        if labels.dtype.kind == "i":
            return self.adapter.softmax_cross_entropy_with_integer_labels(logits, labels)
        return self.adapter.softmax_cross_entropy(logits, labels)

    def logsumexp(self, logits, axis):
        return self.adapter.logsumexp(logits, axis)


ADAPTERS = {"torch": Torch, "tensorflow": TensorFlow, "jax": Jax}
