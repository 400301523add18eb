"""Arguments that transformers looks at after everything is loaded are refused before."""

import pytest
from datasets import Dataset

from arr_trl import RPOConfig, RPOTrainer
from arr_trl.trainer.inherited import check_inherited


def config(**overrides):
    return RPOConfig(output_dir="unused", bf16=False, use_cpu=True, report_to=[], **overrides)


@pytest.mark.parametrize(("package", "optims"), [
    ("bitsandbytes", ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "ademamix", "lion_8bit", "rmsprop_bnb"]),
    ("galore_torch", ["galore_adamw", "galore_adafactor_layerwise"]),
    ("apollo_torch", ["apollo_adamw"]),
    ("lomo_optim", ["lomo", "adalomo"]),
    ("schedulefree", ["schedule_free_adamw", "schedule_free_sgd"]),
    ("optimi", ["stable_adamw"]),
    ("grokadamw", ["grokadamw"]),
    ("torchao", ["adamw_torch_4bit", "adamw_torch_8bit"]),
    ("torchdistx", ["adamw_anyprecision"]),
    ("torch_xla", ["adamw_torch_xla"]),
])  # fmt: skip
def test_optimizer_whose_package_is_missing_is_refused(monkeypatch, package, optims):
    availability = {"lomo_optim": "lomo", "optimi": "torch_optimi"}.get(package, package)
    # present or not on this machine, transformers is told that it is not
    monkeypatch.setattr(f"transformers.trainer_optimizer.is_{availability}_available", lambda *_: False, raising=False)
    for optim in optims:
        with pytest.raises(ValueError, match=f"optim='{optim}' cannot be used here: .*[Ii](nstall|mport)"):
            check_inherited(config(optim=optim))


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop"])
def test_optimizer_that_is_there_is_taken(optim):
    check_inherited(config(optim=optim))


def test_optimizer_that_is_made_from_the_model_is_left_to_when_there_is_one(monkeypatch):
    def of_a_model(args):
        raise ValueError("You need to pass a `model` in order to correctly initialize a LOMO optimizer.")

    monkeypatch.setattr("transformers.Trainer.get_optimizer_cls_and_kwargs", of_a_model)
    check_inherited(config(optim="lomo"))


def test_optimizer_arguments_that_cannot_be_read_are_told():
    with pytest.raises(ValueError, match="optim='sgd' with optim_args='momentum' cannot be used here"):
        check_inherited(config(optim="sgd", optim_args="momentum"))


@pytest.mark.parametrize("tracker", ["wandb", "trackio", "tensorboard", "mlflow", "comet_ml", "clearml", "swanlab"])
def test_tracker_whose_package_is_missing_is_refused(monkeypatch, tracker):
    availability = f"is_{tracker.removesuffix('_ml')}_available"
    monkeypatch.setattr(f"transformers.integrations.integration_utils.{availability}", lambda: False)
    args = config()
    args.report_to = [tracker]
    with pytest.raises(ValueError, match=f"report_to='{tracker}' cannot be used here: .* Or leave it out"):
        check_inherited(args)


def test_tracker_that_does_not_exist_is_refused():
    args = config()
    args.report_to = ["wandbb"]
    with pytest.raises(ValueError, match=r"wandbb is not supported, only .*wandb.* are supported"):
        check_inherited(args)


@pytest.mark.parametrize(("schedule", "kwargs", "sentence"), [
    ("linear", {"min_lr": 1e-6}, "lr_scheduler_kwargs has 'min_lr', and the schedule 'linear' takes none"),
    ("constant", {"num_cycles": 2}, "'num_cycles', and the schedule 'constant' takes none"),
    ("constant_with_warmup", {"min_lr": 0}, "'min_lr', and the schedule 'constant_with_warmup' takes none"),
    ("cosine", {"cycles": 2}, "'cycles', and the schedule 'cosine' takes num_cycles"),
    ("cosine_with_min_lr", {"min_lr_ratio": 0.1}, "'min_lr_ratio', and the schedule .* takes num_cycles, min_lr, min_lr_rate"),
    ("cosine_with_min_lr", None, "gives no schedule: One of min_lr or min_lr_rate should be set"),
    ("cosine", {"num_cycles": "two"}, "gives no schedule"),
    ("polynomial", {"lr_end": 1.0}, "gives no schedule: .*must be smaller than initial lr"),
    ("warmup_stable_decay", None, "gives no schedule"),
])  # fmt: skip
def test_schedule_that_could_not_be_made_is_refused(schedule, kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_inherited(config(lr_scheduler_type=schedule, lr_scheduler_kwargs=kwargs))


@pytest.mark.parametrize(("schedule", "kwargs"), [
    ("linear", None),
    ("constant", None),
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("polynomial", {"power": 2.0}),
    ("inverse_sqrt", {"timescale": 100}),
    ("warmup_stable_decay", {"num_decay_steps": 10}),
])  # fmt: skip
def test_schedule_with_what_it_takes_is_taken(schedule, kwargs):
    for length in ({"max_steps": 20}, {"num_train_epochs": 2}):
        check_inherited(config(lr_scheduler_type=schedule, lr_scheduler_kwargs=kwargs, warmup_steps=0.1, **length))


def test_it_is_told_before_a_model_is_loaded():
    with pytest.raises(ValueError, match="optim='galore_adamw' cannot be used here"):
        RPOTrainer(
            "no/such", lambda prompts, completions, **columns: [0.0], config(optim="galore_adamw"),
            Dataset.from_dict({"prompt": ["a red circle"]}),
        )  # fmt: skip
