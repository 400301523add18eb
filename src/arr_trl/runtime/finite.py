"""What is said when a run has left the numbers."""


def not_finite(what: str, step: int) -> FloatingPointError:
    """
    Args:
        what (`str`): what is not finite, such as `"latents"`.
        step (`int`): the optimizer step that it belongs to.
    """
    return FloatingPointError(
        f"The {what} of step {step} are not finite numbers (NaN or infinite), and nothing can be learned from them. "
        "Lower `learning_rate`, keep `noise_level` away from 0, and where the base is in float16 load it in bfloat16 or "
        "float32."
    )
