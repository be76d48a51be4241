"""What a caller may know of itself: whose key it is, and what its tenant may do and does."""

from dataclasses import asdict

from fastapi import APIRouter

from app import schemas as api
from app.access import Caller, Principal
from app.context import Context, Shared
from app.openapi import problems

router = APIRouter(prefix="/v1", tags=["account"])


@router.get("/account", summary="Look at your own account", responses=problems(503))
def get_account(context: Shared, caller: Caller) -> api.Account:
    """Return the tenant that the caller acts for, its key, the limits in force and the jobs that have not ended."""
    tenant = context.scheduler.tenants.get(caller.tenant)
    return api.Account(
        tenant=tenant.id,
        key=_key(context, caller),
        limits=api.AccountLimits(**asdict(tenant.in_force)),
        usage=api.AccountUsage(queued=tenant.queued, running=tenant.running),
    )


def _key(context: Context, caller: Principal) -> api.AccountKey | None:
    for key in context.scheduler.keys.list(caller.tenant) if caller.key_id else ():
        if key.id == caller.key_id:
            return api.AccountKey(id=key.id, name=key.name, scopes=sorted(key.scopes))
    return None
