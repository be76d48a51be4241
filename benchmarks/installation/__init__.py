"""An installation with a past, made in seconds: jobs that have ended, their attempts and events, GPUs and samples."""
