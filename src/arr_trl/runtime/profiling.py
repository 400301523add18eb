"""`profile=True`: where the time of a few steps goes."""

import time
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, supported_activities
from transformers import TrainerCallback


# What the trainer marks with `record_function`; the rest of a step is the training pass and the optimizer.
PHASES = ("rollout/sample", "rollout/decode", "rollout/reward")


class ProfileCallback(TrainerCallback):
    """
    Profiles optimizer steps after the first, which has one-off costs of its own and is profiled where there is no other,
    and writes `trace.json.gz`, for `chrome://tracing` or [Perfetto](https://ui.perfetto.dev), and the table `shares.md`.

    Args:
        folder (`str` or `Path`): where the two files go.
        steps (`int`, *optional*, defaults to `2`): how many steps.
    """

    def __init__(self, folder: str | Path, steps: int = 2):
        self.folder = Path(folder)
        self.steps = steps
        self._profile: profile | None = None
        self._until = 0
        self._started = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._first = min(state.global_step + 1, state.max_steps - 1)

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self._first and state.is_world_process_zero:
            self._until = state.global_step + self.steps
            activities = supported_activities() & {ProfilerActivity.CPU, ProfilerActivity.CUDA}
            self._profile = profile(activities=activities)
            self._profile.start()
            self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        if self._profile is None or state.global_step < min(self._until, state.max_steps):
            return
        seconds = time.perf_counter() - self._started
        self._profile.stop()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._profile.export_chrome_trace(str(self.folder / "trace.json.gz"))
        spent = {e.key: e.cpu_time_total / 1e6 for e in self._profile.key_averages() if e.key in PHASES}
        spent["training"] = seconds - sum(spent.values())
        lines = ["| phase | seconds | share |", "|---|---|---|"]
        lines += [f"| {phase} | {spent[phase]:.3f} | {spent[phase] / seconds:.0%} |" for phase in spent]
        (self.folder / "shares.md").write_text("\n".join(lines) + "\n")
        self._profile = None
