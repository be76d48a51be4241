"""The modules that answer for the pages, each with its `router`."""

from app.dashboard import advice, assets, costs, gpus, overview, signing_in, submit, timelines

MODULES = (overview, submit, timelines, gpus, advice, costs, signing_in, assets)
