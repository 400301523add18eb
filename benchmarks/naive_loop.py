"""
RPO as one would write it first, and as the published release does it: every candidate is sampled alone, pictures go to
the judge through PNG files, one blocking call for each pair, and the loss is computed transition by transition with a
forward pass of the reference for each. throughput.py holds it against the trainer; it makes the same
candidates from the same noise and takes the same optimizer steps.
"""

import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import set_seed

from arr_trl import RPOConfig, RubricJudge
from arr_trl.data import RepeatSampler
from arr_trl.judges import JudgeRow
from arr_trl.judges.reward import verdict_rewards
from arr_trl.objectives import gaussian_kl, ppo_clip_loss, rpo_advantages, velocity_kl
from arr_trl.policies import FlowPolicy
from arr_trl.sampling import euler_step, log_prob, transition
from arr_trl.trainer.buffer import prompt_generators, random_at
from arr_trl.trainer.trajectory_trainer import draw_window


class NaiveLoop:
    """
    The loop and what it measured.

    Args:
        policy ([`FlowPolicy`]): what is trained.
        judge ([`RubricJudge`]): what compares the pairs.
        args ([`RPOConfig`]): the same configuration that the trainer gets.
        peft_config (`peft.LoraConfig`): the adapter.
        folder (`Path`): where the PNG files go.
    """

    def __init__(self, policy: FlowPolicy, judge: RubricJudge, args: RPOConfig, peft_config: LoraConfig, folder: Path):
        self.policy, self.judge, self.args, self.folder = policy, judge, args, folder
        for component in policy.pipeline.components.values():
            if isinstance(component, torch.nn.Module):
                component.requires_grad_(False)
        set_seed(args.seed)
        peft_config.target_modules = peft_config.target_modules or list(policy.target_modules)
        self.model = get_peft_model(policy.pipeline.transformer, peft_config)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=args.learning_rate,
            betas=(args.adam_beta1, args.adam_beta2),
            eps=args.adam_epsilon,
            weight_decay=args.weight_decay,
        )
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def timed(self, name: str):
        started = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - started

    def train(self, prompts: list[str]) -> None:
        """`max_steps` optimizer steps, one rollout each."""
        args = self.args
        count = args.prompts_per_rollout
        order = list(RepeatSampler(len(prompts), count, 1, args.shuffle_dataset, args.seed))
        for step in range(args.max_steps):
            self.step(step, [prompts[i] for i in order[step * count : (step + 1) * count]])

    def step(self, step: int, prompts: list[str]) -> None:
        args = self.args
        window = draw_window(args, random_at(args.seed, step))
        stored = []
        for prompt, generator in zip(prompts, prompt_generators(args.seed, step, 0, len(prompts)), strict=True):
            rows, files = [], []
            noise = self.noise(generator, len(window))
            for number, (initial, steps) in enumerate(noise):
                latents, transitions = self.sample(prompt, initial, steps, window)
                rows.append(transitions)
                with self.timed("decoding"):
                    files.append(self.folder / f"candidate_{number}.png")
                    self.policy.decode(latents, args.height, args.width)[0].save(files[-1])
            with self.timed("judge"):
                pictures = tuple(Image.open(file).convert("RGB") for file in files)
                (verdict,) = self.judge.compare([JudgeRow(prompt, pictures)])
            rewards = [torch.nan if reward is None else reward for reward in verdict_rewards(verdict)]
            advantages = rpo_advantages(
                torch.tensor([rewards]), args.positive_reward, args.negative_reward, args.center_rewards
            )[0]
            stored += [
                (prompt, transition, advantage)
                for transitions, advantage in zip(rows, advantages, strict=True)
                for transition in transitions
                if not advantage.isnan()
            ]
        with self.timed("training"):
            for row in stored:
                self.loss(*row).backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), args.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def noise(self, generator: torch.Generator, steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Initial noise and that of the steps of each candidate, as the trainer draws them."""
        args, n = self.args, self.args.num_generations
        drawn = 1 if args.share_initial_noise else n
        initial = self.policy.initial_noise(drawn, args.height, args.width, [generator] * drawn)
        of_steps = torch.randn((n, steps, *initial.shape[1:]), generator=generator).to(initial.device)
        return [(initial[:1] if args.share_initial_noise else initial[k : k + 1], of_steps[k]) for k in range(n)]

    @torch.no_grad()
    def sample(self, prompt: str, latents: torch.Tensor, noise: torch.Tensor, window: range):
        """One candidate, step by step."""
        args = self.args
        with self.timed("sampling"):
            conditioning = self.policy.encode([{"prompt": prompt}], args.height, args.width)
            sigmas = self.policy.sigmas(args.num_inference_steps, args.height, args.width).to(latents.device)
            transitions = []
            for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.split(1))):
                velocity = self.policy.velocity(self.model, latents, sigma, conditioning, args.guidance_scale)
                if i not in window:
                    latents = euler_step(latents, velocity, sigma, sigma_next)
                    continue
                mean, std = transition(latents, velocity, sigma, sigma_next, args.noise_level, args.sde_type)
                next_latents = mean + std.view(-1, 1, 1) * noise[i - window.start]
                transitions.append((latents, next_latents, sigma, sigma_next))
                latents = next_latents
        return latents, transitions

    def loss(self, prompt: str, stored: tuple[torch.Tensor, ...], advantage: torch.Tensor) -> torch.Tensor:
        """The on-policy loss of one transition."""
        args, velocity_of = self.args, self.policy.velocity
        latents, next_latents, sigma, sigma_next = stored
        conditioning = self.policy.encode([{"prompt": prompt}], args.height, args.width)
        velocity = velocity_of(self.model, latents, sigma, conditioning, args.guidance_scale)
        mean, std = transition(latents, velocity, sigma, sigma_next, args.noise_level, args.sde_type)
        log_probability = log_prob(next_latents, mean, std)
        loss, _ = ppo_clip_loss(log_probability, log_probability.detach(), advantage.to(mean.device), args.epsilon)
        if args.beta > 0:
            with torch.no_grad(), self.model.disable_adapter():
                reference = velocity_of(self.model, latents, sigma, conditioning, args.guidance_scale)
            ref_mean, _ = transition(latents, reference, sigma, sigma_next, args.noise_level, args.sde_type)
            kl = velocity_kl(velocity, reference) if args.sde_type == "cps" else gaussian_kl(mean, ref_mean, std)
            loss = loss + args.beta * kl
        return loss.sum() / (args.per_device_train_batch_size * args.gradient_accumulation_steps)
