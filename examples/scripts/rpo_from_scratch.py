# /// script
# requires-python = ">=3.10"
# dependencies = ["arr_trl"]
# ///
"""
RPO in one file, to be read from top to bottom: what `RPOTrainer` does with the settings of `make quickstart`, without the
trainer. It draws pairs on TinyScenes, asks the judge which is better, and reinforces the noisy step that made the difference.
After as many steps it has the trainer's adapter, bit by bit; a test holds that.

python examples/scripts/rpo_from_scratch.py --steps 250 --output outputs/rpo_from_scratch

Left out: several devices and accumulation, resuming, a penalty against the base, more than one optimizer step for a rollout,
failures that end a run, logging. For those see src/arr_trl/trainer, in the order online_trainer.py, trajectory_trainer.py.
"""

import argparse
from itertools import islice
from random import Random

import torch
from peft import LoraConfig, get_peft_model

from arr_trl import Rubric, RubricJudge
from arr_trl.data import RepeatSampler
from arr_trl.objectives import ppo_clip_loss, rpo_advantages
from arr_trl.policies import load_policy, select
from arr_trl.release import save_adapter
from arr_trl.sampling import denoise, log_prob, rollout, transition
from arr_trl.tiny_scenes import BASE_MODEL, MAX_SEQUENCE_LENGTH, TinyScenesJudge, prompts, success, use_one_thread


SIZE, T, GUIDANCE = 32, 8, 3.5  # pixels, denoising steps, FLUX's guidance, which is an input of the network
PAIRS = 64  # of each optimizer step
WINDOW = range(3)  # the noisy step is one of these
SDE_TYPE, NOISE_LEVEL = "cps", 0.8
LEARNING_RATE, MAX_GRAD_NORM, EPSILON = 6e-4, 1.0, 0.2


def load_model(seed):
    """The pipeline as a policy, and its transformer, frozen, with a LoRA adapter whose second factor is 0."""
    sizes, settings = {"height": SIZE, "width": SIZE}, {"max_sequence_length": MAX_SEQUENCE_LENGTH}
    policy = load_policy(str(BASE_MODEL), sizes, settings, dtype=torch.float32)
    for component in policy.pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False)
    torch.manual_seed(seed)
    config = LoraConfig(r=16, lora_alpha=32, target_modules=list(policy.target_modules))
    return policy, get_peft_model(policy.pipeline.transformer, config)


def rollouts(dataset, seed):
    """The rows of one rollout after another: none comes a second time before all have come once."""
    sampler = RepeatSampler(len(dataset), PAIRS, repeat_count=1, shuffle=True, seed=seed)
    epoch = 0
    while True:
        sampler.set_epoch(epoch)
        places = iter(sampler)
        while chunk := list(islice(places, PAIRS)):
            yield [dataset[place] for place in chunk]
        epoch += 1


def sample(policy, model, rows, seed, number):
    """
    Two candidates of each row. They start from one noise and are one until a noisy step parts them, the same step for all
    pairs of a rollout. So what leaves from a row's latents is `K = 2` candidates, and one forward pass is enough for them.
    """
    random = Random(f"{seed} {number}")  # of the rollout; each prompt has noise of its own
    step = random.randint(WINDOW.start, WINDOW.stop - 1)
    seeds = [Random(f"{seed} {number} {prompt}").getrandbits(63) for prompt in range(len(rows))]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    conditioning = policy.encode(rows, SIZE, SIZE)
    initial = policy.initial_noise(len(rows), SIZE, SIZE, generators)
    of_steps = torch.stack([torch.randn((2, 1, *initial.shape[1:]), generator=g) for g in generators])
    sigmas = policy.sigmas(T, SIZE, SIZE)
    noise = initial, of_steps
    drawn = rollout(policy, model, *noise, sigmas, conditioning, step, SDE_TYPE, NOISE_LEVEL, GUIDANCE)
    return drawn, conditioning, random


def advantages_of(judge, rows, images):
    """+.55 for the preferred candidate and -.55 for the other, NaN for a pair of which the judge said nothing: `[P, 2]`."""
    captions = [row["prompt"] for row in rows for _ in range(2)]
    rewards = judge(prompts=captions, completions=images, num_generations=2)  # 1 and 0, .5 twice for a tie, or None
    rewards = torch.tensor([torch.nan if reward is None else reward for reward in rewards])
    return rpo_advantages(rewards.view(-1, 2), positive_reward=1.0, negative_reward=0.1, center=True)


def loss_of(policy, model, steps, conditioning, advantages_RK):
    """
    The clipped surrogate on the stored steps. Their probability under the network as it is now needs a forward pass with
    gradient; the one under the network that drew them is the same number, since nothing has moved in between.
    """
    latents, sigma, sigma_next = steps["latents"], steps["sigma"], steps["sigma_next"]
    velocity = policy.velocity(model, latents, sigma, select(conditioning, steps["prompt"]), GUIDANCE)
    mean, std = transition(latents, velocity, sigma, sigma_next, NOISE_LEVEL, SDE_TYPE)
    log_prob_RK = log_prob(steps["next_latents"], mean[:, None], std[:, None])
    loss_RK, _ = ppo_clip_loss(log_prob_RK, log_prob_RK.detach(), advantages_RK, EPSILON)
    # pairs that were left out count in the denominator: a tie is not a reason for larger steps on the others
    return loss_RK.sum() / (2 * PAIRS)


def train(num_steps, seed=0):
    """`num_steps` optimizer steps with a falling rate, one rollout for each."""
    policy, model = load_model(seed)
    judge = RubricJudge(rubric=Rubric.load("tiny_scenes"), model=TinyScenesJudge())
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (num_steps - step) / num_steps)
    for number, rows in enumerate(islice(rollouts(prompts("train"), seed), num_steps)):
        drawn, conditioning, random = sample(policy, model, rows, seed, number)
        images = policy.decode(drawn.latents, SIZE, SIZE)
        advantages_PN = advantages_of(judge, rows, images)
        advantages_RK = advantages_PN[drawn.rows["prompt"][:, None], drawn.rows["candidate"]]
        decided = (~advantages_RK.isnan()).all(1).nonzero().flatten().tolist()
        random.shuffle(decided)  # as the trainer does for its micro-batches; here it only decides how sums are rounded
        if decided:
            steps = select(drawn.rows, torch.tensor(decided))
            loss_of(policy, model, steps, conditioning, advantages_RK[decided]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            optimizer.zero_grad()
        schedule.step()
        print(f"step {number + 1}/{num_steps}: {len(decided)} of {PAIRS} pairs decided", flush=True)
    return policy, model


@torch.no_grad()
def success_rate(policy, model, rows):
    """Share of pictures, drawn without noise in their steps, that are all that their caption says."""
    generators = [torch.Generator().manual_seed(1234 + i) for i in range(len(rows))]
    noise = policy.initial_noise(len(rows), SIZE, SIZE, generators)
    sigmas, conditioning = policy.sigmas(T, SIZE, SIZE), policy.encode(rows, SIZE, SIZE)
    images = policy.decode(denoise(policy, model, noise, sigmas, conditioning, GUIDANCE), SIZE, SIZE)
    return sum(all(found.values()) for found in success([row["prompt"] for row in rows], images)) / len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="RPO on TinyScenes in one file.")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="outputs/rpo_from_scratch", help="Folder that the adapter is written to.")
    arguments = parser.parse_args()
    use_one_thread()
    policy, model = train(arguments.steps, arguments.seed)
    save_adapter(model, arguments.output, policy.pipeline_class)
    held_out = list(prompts("test"))
    with model.disable_adapter():
        base = success_rate(policy, model, held_out)
    print(f"Success on held-out captions: base {base:.1%}, trained {success_rate(policy, model, held_out):.1%}")
