"""The modules that answer for the pages, each with its `router`."""

from app.dashboard import advice, assets, costs, gpus, job_list, job_page, overview, signing_in, submit, timelines

MODULES = (overview, job_list, job_page, submit, timelines, gpus, advice, costs, signing_in, assets)
