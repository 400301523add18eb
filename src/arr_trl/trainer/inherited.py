"""
Arguments of transformers that its `Trainer` looks at when everything is loaded, or when training begins: looked at before.
"""

import inspect

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments, get_scheduler
from transformers.integrations import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    get_reporting_integration_callbacks,
)
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION


# what these are made from is the model, which is not there yet: of them a missing package is all that shows
_OPTIMIZERS_OF_A_MODEL = ("adalomo", "apollo", "galore", "lomo")
_NO_SETTING_OF_A_SCHEDULE = ("optimizer", "num_warmup_steps", "num_training_steps", "last_epoch")


def check_inherited(args: TrainingArguments) -> None:
    """
    Refuse an optimizer, a tracker or a schedule that could not be made.

    Args:
        args ([`~transformers.TrainingArguments`]): the configuration.

    Raises:
        `ValueError`: with a sentence that says what to change.
    """
    _check_optimizer(args)
    _check_trackers(args)
    _check_schedule(args)


def _check_optimizer(args: TrainingArguments) -> None:
    name = args.optim.value
    try:
        Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, ValueError, TypeError, AttributeError) as error:
        if name.startswith(_OPTIMIZERS_OF_A_MODEL) and not isinstance(error, ImportError):
            return
        given = f" with optim_args={args.optim_args!r}" if args.optim_args else ""
        raise ValueError(f"optim={name!r}{given} cannot be used here: {error}") from error


def _check_trackers(args: TrainingArguments) -> None:
    try:
        get_reporting_integration_callbacks(args.report_to)
    except ValueError as error:
        raise ValueError(f"report_to={args.report_to}: {error}") from error
    # a tracker that is there begins something when it is made, so only the others are
    for name in set(args.report_to) - set(get_available_reporting_integrations()):
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (ImportError, RuntimeError) as error:
            raise ValueError(f"report_to={name!r} cannot be used here: {error} Or leave it out.") from error


def _check_schedule(args: TrainingArguments) -> None:
    name, kwargs = args.lr_scheduler_type, args.lr_scheduler_kwargs or {}
    parameters = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[name]).parameters
    taken = [parameter for parameter in parameters if parameter not in _NO_SETTING_OF_A_SCHEDULE]
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [] if open_ended else [key for key in kwargs if key not in taken]
    if unknown:
        raise ValueError(
            f"lr_scheduler_kwargs has {', '.join(map(repr, unknown))}, and the schedule {name.value!r} takes "
            f"{', '.join(taken) or 'none'}."
        )
    steps = args.max_steps if args.max_steps > 0 else 1000
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    try:
        schedule = get_scheduler(name, optimizer, args.get_warmup_steps(steps), steps, kwargs)
        if isinstance(schedule, LambdaLR):  # some values are looked at after the warm-up only
            schedule.lr_lambdas[0](steps - 1)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"lr_scheduler_type={name.value!r} with lr_scheduler_kwargs={kwargs} gives no schedule: {error}."
        ) from error
