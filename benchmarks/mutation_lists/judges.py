"""Mistakes in judges, their verdicts, and the chat models that they ask."""

# fmt: off
MUTATIONS = [
    # judges
    ("better in one order is better", "judges/aggregate.py", "if all(ranks[i] < ranks[j] for",
     "if any(ranks[i] < ranks[j] for", "judges/test_ranks.py"),
    ("weights of criteria not counted", "judges/aggregate.py", "criterion.weight * of_criterion", "of_criterion",
     "judges/test_ranks.py judges/test_aggregate.py"),
    ("both questions in the given order", "judges/rubric_judge.py", "[given, given[::-1]]", "[given, given]",
     "judges/test_rubric_judge.py"),
    ("choice read by position", "judges/choice.py", "(shares[positions.index(0)], shares[positions.index(1)])",
     "(shares[0], shares[1])", "judges/test_rubric_judge.py"),
    ("first of several that are level is the best", "judges/aggregate.py", "if ranks.count(min(ranks)) == 1 else None",
     "if ranks else None", "judges/test_ranks.py"),
    ("first failures of a run stop it", "rewards/failures.py", "* self._recent.maxlen:", "* len(self._recent):",
     "judges/test_rubric_judge.py"),
    ("scores of criteria given where essential ones decide", "judges/pointwise.py",
     "for both in sums) if one_kind else None", "for both in sums)", "judges/test_orders_of_a_verdict.py"),
    ("failed comparison of a tournament counts as a tie", "judges/tournament.py",
     "zip(pairs, verdicts, strict=True) if verdict.failure is None]", "zip(pairs, verdicts, strict=True)]",
     "judges/test_tournament.py"),
    ("win rate over all pairs, answered or not", "judges/tournament.py", "w / a if a else math.nan", "w / len(pairs)",
     "judges/test_tournament.py"),
    ("the mass of every answer for that of the expected one", "judges/soft_tifa.py", "if right and name in logprobs",
     "if name in logprobs", "judges/test_soft_tifa.py"),
    ("the first token of 10 taken for 10", "judges/soft_tifa.py", "if i < 10 else []", "if i < 11 else []",
     "judges/test_soft_tifa.py"),
    ("a missing answer about a picture taken for 0", "judges/soft_tifa.py", 'if a.status == "answered" else None',
     'if a.status == "answered" else 0.0', "judges/test_soft_tifa.py"),
    # chat
    ("workers wait for the threads of the run they were forked from", "chat/at_exit.py", " and os.getpid() == process",
     "", "chat/test_at_exit.py::test_workers_forked_from_a_run_with_a_judge_end_without_waiting_for_its_threads"),
    ("patches turned on their side", "chat/with_gradient.py", "permute(1, 4, 2, 5, 0, 3, 6)",
     "permute(1, 4, 2, 5, 0, 6, 3)", "judges/test_rubric_with_gradient.py"),
    ("reward of the second picture", "judges/with_gradient.py", "first - both", "second - both",
     "judges/test_rubric_with_gradient.py"),
]
# fmt: on
