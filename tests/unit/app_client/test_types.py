"""The client's types say what the server's schemas say."""

from typing import get_type_hints

import pytest

from app import schemas as api
from app.client import types

SAME = [
    (types.Job, api.Job),
    (types.Video, api.Video),
    (types.Estimate, api.Estimate),
    (types.Waiting, api.QueueState),
    (types.Measured, api.MeasuredUse),
    (types.Params, api.JobParams),
    (types.JobOutcome, api.JobOutcome),
    (types.JobRefusal, api.JobRefusal),
    (types.Event, api.Event),
    (types.JobEstimate, api.JobEstimate),
    (types.Expected, api.Expected),
    (types.Wait, api.Wait),
    (types.Notice, api.Notice),
    (types.Failure, api.Failure),
    (types.Account, api.Account),
    (types.AccountKey, api.AccountKey),
    (types.AccountLimits, api.AccountLimits),
    (types.AccountUsage, api.AccountUsage),
    (types.WebhookEndpoint, api.WebhookEndpoint),
    (types.Delivery, api.WebhookDeliveryDetail),
    (types.DeliveryTry, api.WebhookTry),
    (types.WebhookSecret, api.WebhookSecret),
    (types.Parameters, api.Parameters),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME, ids=lambda kind: kind.__name__)
def test_the_names_are_the_servers(ours, theirs):
    assert set(get_type_hints(ours)) == set(theirs.model_fields)


def test_a_job_takes_the_fields_that_the_server_takes():
    assert set(get_type_hints(types.JobFields)) == set(api.JobFields.model_fields) - {"prompt"}
