"""What `find_unused_parameters=True` costs a training on several ranks.

    python -m benchmarks.unused_parameters --space cifar --batch-size 64

Two gloo processes on this machine's CPU train the largest subnet, with which DistributedDataParallel works
both ways, and take turns: a block of steps with the flag, a block without. Printed are the medians. The
search for unused parameters is a walk over the graph on the CPU, of the same length whatever the batch.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import distributed, multiprocessing
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from nni_autoformer import SearchSpace, build_supernet


def measure(rank: int, arguments: argparse.Namespace) -> None:
    """One rank."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"tcp://localhost:{arguments.port}", rank=rank, world_size=arguments.ranks
    )
    space = SearchSpace.load(arguments.space)
    supernet = build_supernet(space).train()
    supernet.set_architecture(space.largest)
    networks = {
        flag: DistributedDataParallel(supernet, find_unused_parameters=flag) for flag in (False, True)
    }
    model = space.model
    images = torch.randn(arguments.batch_size, model.in_chans, *model.img_size)
    targets = torch.arange(arguments.batch_size) % model.num_classes
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(arguments.blocks):
        for flag, network in networks.items():
            for step in range(arguments.steps + 1):
                start = time.perf_counter()
                supernet.zero_grad()
                cross_entropy(network(images), targets).backward()
                if step:  # the first after a change of sides warms up
                    seconds[flag].append(time.perf_counter() - start)
    if rank == 0:
        without, with_ = (1e3 * statistics.median(seconds[flag]) for flag in (False, True))
        print(f"{space.name}, {arguments.ranks} x {arguments.batch_size} images, {len(seconds[True])} steps")
        more = with_ - without
        print(f"without {without:.1f} ms, with {with_:.1f} ms: {more:+.2f} ms, {more / without:+.1%}")
    distributed.destroy_process_group()


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="cifar")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--port", type=int, default=29611)
    arguments = parser.parse_args(words)
    multiprocessing.start_processes(measure, (arguments,), arguments.ranks, start_method="fork")


if __name__ == "__main__":
    main()
