"""Failures without the memory they hold: a traceback keeps every frame's tensors alive."""

import traceback


def told(error: BaseException) -> str:
    """Return the traceback as text, for the log."""
    return "".join(traceback.format_exception(error))


def cleared(error: BaseException) -> None:
    """Let go of what the frames of `error`, and of what led to it, hold."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        if one.__traceback__ is not None:
            traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
