"""Our time beside the processors of transformers and beside what trainers of language models write in torch.

    python benchmarks/generation.py [--only penalty*,three*] [--threads 2] [--budget 2]

Two threads for everybody. Ours and the peer take turns, and must agree before either is timed. A new case is a
function that makes its inputs and returns the two calls, under `case`: what it is called, who the peer is, and how many
times as long the peer must take.
"""

import argparse
import fnmatch
import sys
from typing import NamedTuple

import numpy as np
import timing

import fastlogits


class Case(NamedTuple):
    name: str
    peer: str
    goal: float
    prepare: object  # () -> (our call, the peer's call, what checks their two results)


CASES = []


def case(name, peer, goal):
    return lambda prepare: CASES.append(Case(name, peer, goal, prepare)) or prepare


def normal(*shape, spread=4.0):
    return spread * np.random.default_rng(0).standard_normal(shape, np.float32)


def close(ours, theirs):
    """Each array of ours next to the one of theirs."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=1e-4, atol=1e-4)


@case("filter_logits, three filters, 32 x 128256", "transformers", 20)
def three_filters():
    import torch
    from transformers.generation import logits_process

    x = normal(32, 128256)
    logits = torch.from_numpy(x)
    warpers = logits_process.LogitsProcessorList(
        [
            logits_process.TemperatureLogitsWarper(0.7),
            logits_process.TopKLogitsWarper(50),
            logits_process.TopPLogitsWarper(0.9),
        ]
    )

    def agree(ours, theirs):
        np.testing.assert_array_equal(ours, theirs)

    return (
        lambda: fastlogits.filter_logits(x, temperature=0.7, top_k=50, top_p=0.9),
        lambda: warpers(None, logits).numpy(),
        agree,
    )


@case("penalty, top_k=50, top_p=0.9, draw, 32 x 128256", "transformers", 15)
def penalised_draw():
    import torch
    from transformers.generation import logits_process

    x, history = normal(32, 128256), np.random.default_rng(1).integers(0, 128256, (32, 512))
    logits, ids = torch.from_numpy(x), torch.from_numpy(history)
    processors = logits_process.LogitsProcessorList(
        [
            logits_process.RepetitionPenaltyLogitsProcessor(1.2),
            logits_process.TopKLogitsWarper(50),
            logits_process.TopPLogitsWarper(0.9),
        ]
    )
    options = {"history": history, "repetition_penalty": 1.2, "top_k": 50, "top_p": 0.9}

    def by_transformers():
        probs = torch.softmax(processors(ids, logits), -1)
        return torch.multinomial(probs, 1), probs

    def agree(ours, theirs):
        close([ours.log_probs], [theirs[1].gather(-1, torch.from_numpy(ours.ids)[:, None])[:, 0].log()])

    return lambda: fastlogits.sample(x, seed=0, **options), by_transformers, agree


@case("the same with a mask of bits, half of it random", "ours without", 1 / 1.1)
def masked_draw():
    x, history = normal(32, 128256), np.random.default_rng(1).integers(0, 128256, (32, 512))
    words = np.random.default_rng(2).integers(-(2**31), 2**31, (32, 4008)).astype(np.int32)
    options = {"history": history, "repetition_penalty": 1.2, "top_k": 50, "top_p": 0.9}

    def agree(ours, theirs):
        allowed = (words[np.arange(32), ours.ids // 32] >> (ours.ids % 32)) & 1
        np.testing.assert_array_equal(allowed, 1)

    return (
        lambda: fastlogits.sample(x, seed=0, allowed=words, **options),
        lambda: fastlogits.sample(x, seed=0, **options),
        agree,
    )


@case("selective_log_softmax + gradient, 256 x 32000", "torch log_softmax, gather", 3)
def selective():
    import torch

    from fastlogits.torch import selective_log_softmax

    logits = torch.from_numpy(normal(256, 32000)).requires_grad_()
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, 32000, 256))

    def with_gradient(log_probs):
        return log_probs.detach(), *torch.autograd.grad(log_probs.sum(), logits)

    def by_torch():
        return with_gradient(torch.log_softmax(logits, -1).gather(-1, ids[:, None])[:, 0])

    return lambda: with_gradient(selective_log_softmax(logits, ids)), by_torch, close


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="*", metavar="A,B,...", help="cases; * and ? are wildcards")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for a case, without preparations")
    args = parser.parse_args()
    chosen = [c for c in CASES if any(fnmatch.fnmatch(c.name, f"{pattern}*") for pattern in args.only.split(","))]
    if not chosen:
        raise SystemExit(f"--only {args.only}: fits none of: {'; '.join(c.name for c in CASES)}")
    print(f"{'':<46} {'ours, us':>10} {'theirs, us':>11} {'ratio':>6} {'goal':>6}  against")
    with fastlogits.settings(num_threads=args.threads):
        missed = [c.name for c in chosen if not met(c, args)]
    return 1 if missed else 0


def met(case, args):
    try:
        import torch

        torch.set_num_threads(args.threads)
    except ImportError:
        pass  # then so says the case that needs it
    ours, theirs, agree = case.prepare()
    agree(ours(), theirs())
    racers = {"ours": timing.Contender(ours), "theirs": timing.Contender(theirs)}
    timing.race(racers, budget=args.budget)
    own, other = (racer.seconds * 1e6 for racer in racers.values())
    noise = "" if max(racer.spread for racer in racers.values()) < timing.NOISY else "  (noisy)"
    ratio = other / own
    verdict = "" if ratio >= case.goal else "  MISSED"
    print(f"{case.name:<46} {own:>10.1f} {other:>11.1f} {ratio:>6.2f} {case.goal:>6.2f}  {case.peer}{verdict}{noise}")
    return not verdict


if __name__ == "__main__":
    sys.exit(main())
