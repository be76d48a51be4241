"""The front end: HTTP, the command line and the client. No torch."""
