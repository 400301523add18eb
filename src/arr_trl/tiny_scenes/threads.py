"""With how many threads the networks of TinyScenes compute, and how long a run then takes."""

import os

import torch


# a step of 64 pairs, on a core of an AMD EPYC that has nothing else to do: see docs/source/benchmarks.md
_SECONDS_PER_STEP, _SECONDS_PER_STEP_OF_EDITS = 1.0, 2.0


def use_one_thread() -> None:
    """
    Compute with one thread, unless the environment says how many.

    Two are no faster on layers this small, and wait for each other at every one of them: where the cores have other
    work, a rollout takes ten to thirty times as long.
    """
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        torch.set_num_threads(1)


def how_long(steps: int, edits: bool = False) -> str:
    """
    What to expect of a run on TinyScenes, in a sentence.

    Args:
        steps (`int`): optimizer steps of 64 pairs; 0 or fewer where they are not known yet.
        edits (`bool`, *optional*, defaults to `False`): whether the editor is trained.
    """
    seconds = _SECONDS_PER_STEP_OF_EDITS if edits else _SECONDS_PER_STEP
    in_all = f", about {max(1, round(steps * seconds / 60))} min for {steps} steps" if steps > 0 else ""
    threads = torch.get_num_threads()
    return (
        f"With {threads} thread{'s' * (threads > 1)} a step of 64 pairs takes about {seconds:g} s on a free core{in_all}; "
        "several times that where others work on it."
    )
