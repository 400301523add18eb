"""What the model card says of the preferences that a run was trained on."""

from collections.abc import Mapping, Sequence

from datasets import Dataset, IterableDataset

from ..data.given_pictures import has_pairs


_NAMED = 5  # of who labelled


def preference_facts(
    train_dataset: Dataset | IterableDataset,
    eval_dataset: Dataset | None,
    log_history: Sequence[Mapping[str, float]],
) -> dict[str, str]:
    """
    How many pairs there were, who labelled them where their rows say it, and what was measured of held-out ones.

    Args:
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]): the pairs or rankings.
        eval_dataset ([`~datasets.Dataset`], *optional*): held-out ones, or prompts alone.
        log_history (`Sequence[dict]`): what was logged.
    """
    columns = train_dataset.column_names or []
    what = "rankings" if "images" in columns else "pairs"
    if isinstance(train_dataset, IterableDataset):
        facts = {"trained on": f"{what}, streamed"}
    else:
        facts = {"trained on": f"{len(train_dataset):,} {what}"}
        for column, name in (("judge", "labelled by"), ("rubric", "by the rubric or preset")):
            found = sorted({value for value in train_dataset[column] if value}) if column in columns else []
            if found:
                more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
                facts[name] = ", ".join(found[:_NAMED]) + more
    measured = [entry for entry in log_history if "eval_rewards/accuracies" in entry]
    if measured and eval_dataset is not None and has_pairs(eval_dataset.column_names):
        facts["implicit accuracy"] = (
            f"{measured[-1]['eval_rewards/accuracies']:.1%} of {len(eval_dataset):,} held-out pairs, .5 for the base"
        )
        facts["matching error of the preferred pictures"] = (
            f"{measured[-1]['eval_policy/chosen_error']:+.2g} against the reference's {measured[-1]['eval_policy/matching_error']:.2g}"
        )
    return facts
