"""torch, torch.compile, JAX and TensorFlow as peers, each operation in the ways its users do it.

With `functions`, a module of ours, the class speaks to it instead: changing the import is all a user does.
"""

import functools
import os

import numpy as np
from benchmarks.common import AXIS, SMOOTHING, bfloat16
from peers import Peer


class Torch(Peer):
    """torch, eager; or `fastlogits.torch`."""

    def __init__(self, threads, functions=None):
        super().__init__()
        import torch

        torch.set_num_threads(threads)
        self.torch, self.peer = torch, functions is None
        self.functions, self.F = functions or torch, functions or torch.nn.functional

    def array(self, array):
        if array.dtype == bfloat16:
            return self.torch.from_numpy(array.view(np.uint16)).view(self.torch.bfloat16)
        return self.torch.from_numpy(array)

    def numpy(self, result):
        tensors = result if isinstance(result, tuple) else (result,)
        return tuple((t.float() if t.itemsize == 2 else t).detach().numpy() for t in tensors)

    def ways(self, operation, arrays):
        if operation == "loss_grad_in_place" and not self.peer:
            arrays = (self.as_model_output(arrays[0]), *arrays[1:])
        elif operation.startswith("loss_grad"):
            arrays = (arrays[0].detach().requires_grad_(), *arrays[1:])
        return super().ways(operation, arrays)

    def as_model_output(self, x):
        """`x` as the result of some layer: autograd lets nobody write over a leaf."""

        class Layer(self.torch.autograd.Function):
            @staticmethod
            def forward(context, parameter):
                return x

            @staticmethod
            def backward(context, grad):
                return None

        return Layer.apply(self.torch.zeros((), requires_grad=True))

    def softmax(self):
        return [lambda x: self.functions.softmax(x, AXIS)]

    def log_softmax(self):
        return [lambda x: self.functions.log_softmax(x, AXIS)]

    def logsumexp(self):
        return [lambda x: self.functions.logsumexp(x, AXIS)]

    def argmax(self):
        return [lambda x: self.functions.argmax(x, AXIS)] if hasattr(self.functions, "argmax") else []

    def loss(self):
        def by_hand(x, labels):
            picked = x.gather(AXIS, labels.unsqueeze(AXIS)).squeeze(AXIS)
            return (self.torch.logsumexp(x, AXIS) - picked).mean()

        return [self.F.cross_entropy, by_hand][: 1 + self.peer]

    def through_autograd(self, function):
        def loss_grad(x, labels):
            loss = function(x, labels)
            return loss, *self.torch.autograd.grad(loss, x)

        return loss_grad

    def loss_grad(self, **options):
        cross_entropy = functools.partial(self.F.cross_entropy, **options)

        def by_float32(x, labels):
            return cross_entropy(x.float(), labels if labels.dtype == self.torch.int64 else labels.float())

        return [self.through_autograd(loss) for loss in (cross_entropy, by_float32)[: 1 + self.peer]]

    def loss_grad_in_place(self):
        def by_hand(x, labels):
            with self.torch.no_grad():
                picked = labels.unsqueeze(AXIS)
                x -= self.torch.logsumexp(x, AXIS, keepdim=True)
                loss = -x.gather(AXIS, picked).mean()
                x.exp_().scatter_add_(AXIS, picked, self.torch.full_like(picked, -1, dtype=x.dtype))
                return loss, x.div_(labels.numel())

        return [*self.loss_grad(), by_hand] if self.peer else self.loss_grad(inplace=True)

    def loss_grad_smoothing(self):
        return self.loss_grad(label_smoothing=SMOOTHING)

    def loss_grad_distribution(self):
        return self.loss_grad()

    def softmax_backward(self):
        backward = self.torch.ops.aten._softmax_backward_data
        return [lambda g, p: backward(g, p, AXIS, p.dtype)] if self.peer else []

    def log_softmax_backward(self):
        backward = self.torch.ops.aten._log_softmax_backward_data
        return [lambda g, log_p: backward(g, log_p, AXIS, log_p.dtype)] if self.peer else []


class TorchCompile(Torch):
    """torch.compile of what eager calls, and of loss and gradient written out as one graph."""

    def ways(self, operation, arrays):
        self.torch.compiler.reset()
        calls = super().ways(operation, arrays)
        if operation.startswith("loss_grad"):
            return calls
        return [functools.partial(self.compiled(call.func), *call.args) for call in calls]

    def compiled(self, function):
        options = {"cpp.simdlen": 256} if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2" else {}
        return self.torch.compile(function, dynamic=False, options=options)

    def written_out(self, smoothing=0.0, soft=False, in_place=False):
        def loss_grad(x, labels):
            rows = x.numel() // x.shape[AXIS]
            with self.torch.no_grad():
                log_probs = (x.float() if x.itemsize == 2 else x).log_softmax(AXIS)
                if soft:
                    target, loss = labels, -(labels * log_probs).sum() / rows
                else:
                    picked = labels.unsqueeze(AXIS)
                    classes = self.torch.arange(x.shape[AXIS]).view(-1, *[1] * (x.dim() - 2))
                    target = (1 - smoothing) * (classes == picked) + smoothing / x.shape[AXIS]
                    loss = -(1 - smoothing) * log_probs.gather(AXIS, picked).mean() - smoothing * log_probs.mean()
                grad = (log_probs.exp() - target) / rows
                return loss, x.copy_(grad) if in_place else grad.to(x.dtype)

        return self.compiled(loss_grad)

    def loss_grad(self, **options):
        loss = self.compiled(functools.partial(self.F.cross_entropy, **options))
        return [self.through_autograd(loss), self.written_out(options.get("label_smoothing", 0.0))]

    def loss_grad_in_place(self):
        return [*self.loss_grad()[:1], self.written_out(in_place=True)]

    def loss_grad_distribution(self):
        return [*self.loss_grad()[:1], self.written_out(soft=True)]


class Jax(Peer):
    """JAX, jitted; or `fastlogits.jax`, jitted."""

    def __init__(self, threads, functions=None):
        super().__init__()
        import jax

        jax.config.update("jax_enable_x64", True)  # the pool has as many threads as the process may use processors
        self.jax, self.peer, self.functions = jax, functions is None, functions or jax.nn

    def array(self, array):
        return self.jax.device_put(array)

    def numpy(self, result):
        return self.jax.tree.map(np.asarray, result)

    def ways(self, operation, arrays):
        if operation == "loss_grad_in_place":
            return [Donated(self.jax, call.func, arrays) for call in super().ways("loss_grad", arrays)]
        calls = super().ways(operation, arrays)
        return [functools.partial(self.finished, self.jax.jit(call.func), *call.args) for call in calls]

    def finished(self, function, *arrays):
        return self.jax.block_until_ready(function(*arrays))

    def softmax(self):
        return [lambda x: self.functions.softmax(x, axis=AXIS)]

    def log_softmax(self):
        return [lambda x: self.functions.log_softmax(x, axis=AXIS)]

    def logsumexp(self):
        return [lambda x: self.functions.logsumexp(x, axis=AXIS)]

    def argmax(self):
        return [lambda x: self.jax.numpy.argmax(x, axis=AXIS)] if self.peer else []

    def losses(self, smoothing=0.0, soft=False):
        """Mean losses by way of logsumexp and of log_softmax; half types also by way of float32."""
        jnp, nn = self.jax.numpy, self.jax.nn
        if not self.peer:
            integer = self.functions.softmax_cross_entropy_with_integer_labels
            loss = self.functions.softmax_cross_entropy if soft else integer
            return [] if smoothing else [lambda x, labels: loss(x, labels, axis=AXIS).mean()]

        def cross(z, labels):
            if soft:
                return (labels * z).sum(AXIS)
            picked = jnp.take_along_axis(z, jnp.expand_dims(labels, AXIS), AXIS).squeeze(AXIS)
            return (1 - smoothing) * picked + (smoothing * z.mean(AXIS) if smoothing else 0)

        def by_lse(x, labels):
            return (nn.logsumexp(x, axis=AXIS) - cross(x, labels)).mean()

        def by_log_softmax(x, labels):
            return -cross(nn.log_softmax(x, axis=AXIS), labels).mean()

        def by_float32(x, labels):
            return by_lse(x.astype(np.promote_types(x.dtype, np.float32)), labels)

        return [by_lse, by_log_softmax, by_float32]

    def loss(self):
        return self.losses()

    def loss_grad(self, **options):
        return [self.jax.value_and_grad(loss) for loss in self.losses(**options)]

    def loss_grad_smoothing(self):
        return self.loss_grad(smoothing=SMOOTHING)

    def loss_grad_distribution(self):
        return self.loss_grad(soft=True)

    def softmax_backward(self):
        return [lambda g, p: p * (g - (g * p).sum(AXIS, keepdims=True))] if self.peer else []

    def log_softmax_backward(self):
        jnp = self.jax.numpy
        return [lambda g, log_p: g - jnp.exp(log_p) * g.sum(AXIS, keepdims=True)] if self.peer else []


class Donated:
    """A jitted loss and gradient that may write over the logits: its gradient is the next call's logits."""

    def __init__(self, jax, function, arrays):
        self.jax, self.arrays = jax, arrays
        self.function = jax.jit(function, donate_argnums=0)
        self.reset()

    def reset(self):
        self.logits = self.jax.block_until_ready(self.jax.numpy.copy(self.arrays[0]))

    def __call__(self):
        loss, self.logits = result = self.jax.block_until_ready(self.function(self.logits, self.arrays[1]))
        return result


class TensorFlow(Peer):
    """TensorFlow's own kernels, called eagerly and in a graph, and XLA; or `fastlogits.tensorflow`."""

    def __init__(self, threads, functions=None):
        super().__init__()
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.get_logger().setLevel("ERROR")
        self.tf, self.peer, self.functions = tf, functions is None, functions or tf.nn
        self.reduce_logsumexp = getattr(functions, "reduce_logsumexp", tf.reduce_logsumexp)

    def array(self, array):
        return self.tf.constant(array)

    def numpy(self, result):
        return self.tf.nest.map_structure(lambda t: t.numpy(), result)

    def ways(self, operation, arrays):
        modes = [lambda f: f, self.tf.function]
        if self.peer:
            modes.append(functools.partial(self.tf.function, jit_compile=True))
        calls = super().ways(operation, arrays)
        return [functools.partial(mode(call.func), *call.args) for call in calls for mode in modes]

    def softmax(self):
        return [lambda x: self.functions.softmax(x, axis=AXIS)]

    def log_softmax(self):
        return [lambda x: self.functions.log_softmax(x, axis=AXIS)]

    def logsumexp(self):
        return [lambda x: self.reduce_logsumexp(x, axis=AXIS)]

    def argmax(self):
        return [lambda x: self.tf.argmax(x, axis=AXIS)] if self.peer else []

    def classes_last(self, x):
        return x if len(x.shape) == 2 else self.tf.transpose(x, [0, *range(2, len(x.shape)), AXIS])

    def loss(self):
        def loss(x, labels):
            losses = self.functions.sparse_softmax_cross_entropy_with_logits(labels, self.classes_last(x))
            return self.tf.reduce_mean(losses)

        return [loss]

    def soft_loss(self, x, labels):
        losses = self.functions.softmax_cross_entropy_with_logits(self.classes_last(labels), self.classes_last(x))
        return self.tf.reduce_mean(losses)

    def smoothed_loss(self, x, labels):
        target = self.tf.one_hot(labels, x.shape[AXIS], axis=AXIS, dtype=x.dtype)
        return self.soft_loss(x, (1 - SMOOTHING) * target + SMOOTHING / x.shape[AXIS])

    def with_gradient(self, loss):
        def loss_grad(x, labels):
            with self.tf.GradientTape() as tape:
                tape.watch(x)
                value = loss(x, labels)
            return value, tape.gradient(value, x)

        return [loss_grad]

    def loss_grad(self):
        return self.with_gradient(*self.loss())

    def loss_grad_in_place(self):
        return self.loss_grad() if self.peer else []

    def loss_grad_smoothing(self):
        return self.with_gradient(self.smoothed_loss) if self.peer else []

    def loss_grad_distribution(self):
        return self.with_gradient(self.soft_loss)

    def softmax_backward(self):
        def backward(g, p):
            return p * (g - self.tf.reduce_sum(g * p, AXIS, keepdims=True))

        return [backward] if self.peer else []

    def log_softmax_backward(self):
        def backward(g, log_p):
            return g - self.tf.exp(log_p) * self.tf.reduce_sum(g, AXIS, keepdims=True)

        return [backward] if self.peer else []
