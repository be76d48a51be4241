"""How well the order of the queue and the placement of its jobs serve a stream of them, beside other policies."""
