from ..lazy import from_files


_PUBLIC = {
    "FirstTokenSFTConfig": ".first_token_config",
    "FirstTokenSFTTrainer": ".first_token_trainer",
    "GCPOConfig": ".gcpo_config",
    "GCPOTrainer": ".gcpo_trainer",
    "JudgeFacts": ".judge_card",
    "JudgeTrainer": ".judge_trainer",
    "Trace": ".traces",
    "TraceMaker": ".traces",
    "TraceOutcome": ".traces",
    "LISTENER_WEIGHTS": ".listener",
    "answer_rows": ".rows",
    "choice_rows": ".listener",
    "first_token_losses": ".losses",
    "fidelity_rewards": ".losses",
    "listener_rewards": ".listener",
    "push_judge": ".judge_release",
    "question_rows": ".rows",
    "trace_rows": ".trace_data",
    "won_comparisons": ".losses",
    "write_traces": ".trace_data",
}

__getattr__ = from_files(__name__, _PUBLIC)
__all__ = [*sorted(_PUBLIC)]
