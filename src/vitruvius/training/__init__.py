"""Training: optimisers, schedules, losses, the loop, parallelism, run folders."""
