"""The modules that answer for the pages, each with its `router`."""

from app.dashboard import advice, assets, costs, gpus, overview, signing_in, submit

MODULES = (overview, submit, gpus, advice, costs, signing_in, assets)
