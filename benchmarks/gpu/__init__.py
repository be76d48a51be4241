"""The GPU worker, measured: memory and seconds by plan, through the real engine, and beside the stock pipeline."""
