"""How a run runs: processes, optimizer, guard, stopping, logs, checkpoints."""
