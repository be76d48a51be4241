"""Queries that mean what they say: a parameter that a call does not know is refused, not ignored."""

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError


def refuse_unknown(request: Request) -> None:
    """Raise `RequestValidationError`, which names each query parameter that the call's route does not have."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    unknown = dict.fromkeys(name for name in request.query_params if name not in known)
    if unknown:
        raise RequestValidationError(
            [{"type": "extra_forbidden", "loc": ("query", name), "msg": "unknown"} for name in unknown]
        )


KnownParameters = Depends(refuse_unknown)
