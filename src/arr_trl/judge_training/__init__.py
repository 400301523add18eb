from ..lazy import from_files


_PUBLIC = {
    "FirstTokenSFTConfig": ".first_token_config",
    "FirstTokenSFTTrainer": ".first_token_trainer",
    "GCPOConfig": ".gcpo_config",
    "GCPOTrainer": ".gcpo_trainer",
    "JudgeFacts": ".judge_card",
    "JudgeTrainer": ".judge_trainer",
    "answer_rows": ".rows",
    "first_token_losses": ".losses",
    "fidelity_rewards": ".losses",
    "push_judge": ".judge_release",
    "question_rows": ".rows",
    "won_comparisons": ".losses",
}

__getattr__ = from_files(__name__, _PUBLIC)
__all__ = [*sorted(_PUBLIC)]
