"""The pages for people: made on the server from what the API tells too, kept live by the browser.

A page keeps nothing on the server, so any front end, and any of its processes, answers any request for it. What a page
does to a job or a GPU it does by the API.
"""
